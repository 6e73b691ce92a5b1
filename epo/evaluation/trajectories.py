"""Courses of valence, arousal and dominance: how a reply's follows, balances and steadies the user's.

The scores of AV-EMO-Reasoning's parent (arXiv 2510.07355) stand here exactly as its code computes them, under names
that end in `_parent`. They are unbounded below, ESS divides by the number of large jumps, EBS by the user's length. The
scores without that ending are corrected (our choice): distances are means along the path of the alignment, scores are
in [0, 1], and what cannot be scored is None, which no mean takes in.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Course = Any
"""float (T, D): a point a step, its columns valence, arousal and, where it was measured, dominance, each in [-1, 1]."""

Score = Literal["ecs", "ebs", "ess", "ers"]

EXTREME = ((-1, -0.07), (1, 0.345), (-1, 0.210))
"""Sign and bound beyond which a user's mean calls for balance: low valence, high arousal, low dominance."""

BALANCE = (0.211, -0.105, 0.098)
"""What is added to the user's course where balance is called for."""

JUMP = 0.04
"""Smallest step that counts against steadiness."""

_K = 5.0
_RANGE = 2.0


def alignment_cost(first: Sequence[float], second: Sequence[float]) -> tuple[float, int]:
    """Return the cost of the cheapest alignment of two series, and the length of its path; exact dynamic time warping.

    Steps are (1, 1), (1, 0) and (0, 1), the cost of a pair is the absolute difference, and costs are summed. Of paths
    of one cost the shortest counts. Lengths are below a hundred, so the approximation of the parent is not needed.

    Raises:
        ValueError: one of them is empty.
    """
    if len(first) == 0 or len(second) == 0:
        raise ValueError("a course without a step cannot be aligned")
    best: list[tuple[float, int]] = []
    for i, a in enumerate(first):
        row: list[tuple[float, int]] = []
        for j, b in enumerate(second):
            before = [] if i == 0 else [best[j], *([best[j - 1]] if j > 0 else [])]
            before += [row[j - 1]] if j > 0 else []
            cost, length = min(before) if before else (0.0, 0)
            row.append((cost + abs(float(a) - float(b)), length + 1))
        best = row
    return best[-1]


def ecs_parent(user: Course, agent: Course) -> float:
    """Return how alike valence and arousal run: 1 - 5 (DTW of valence + DTW of arousal) / (4 x the greater length)."""
    cost = sum(alignment_cost(user[:, dim], agent[:, dim])[0] for dim in (0, 1))
    return 1 - _K * cost / (4 * max(len(user), len(agent)))


def ebs_parent(user: Course, agent: Course) -> float | None:
    """Return how well a reply balances an extreme user; None where none is called for (the parent says 1 there)."""
    dims = extreme_dimensions(user)
    if not dims:
        return None
    cost = sum(alignment_cost(user[:, dim] + BALANCE[dim], agent[:, dim])[0] for dim in dims)
    return 1 - _K / len(dims) * cost / len(user)


def ess_parent(agent: Course) -> float:
    """Return 1 - 5 x the mean of those steps, over all dimensions, that exceed `JUMP`; 1 where none does."""
    steps = np.abs(np.diff(np.asarray(agent, dtype=np.float64), axis=0)).ravel()
    large = steps[steps > JUMP]
    return 1.0 if len(large) == 0 else float(1 - _K * large.mean())


def ers_parent(ecs: float, ebs: float | None, ess: float) -> float:
    """Return 0.4 ECS + 0.4 EBS + 0.2 ESS, or 0.7 ECS + 0.3 ESS where no balance is called for."""
    return 0.7 * ecs + 0.3 * ess if ebs is None else 0.4 * ecs + 0.4 * ebs + 0.2 * ess


def ct_ess_parent(agents: Sequence[Course]) -> float | None:
    """Return how steadily a dialogue's replies follow each other; None for fewer than two.

    1 - 5 x the mean over neighbours of the DTWs of all dimensions, summed, over 6 x the greater length.
    """
    if len(agents) < 2:
        return None
    terms = []
    for one, other in zip(agents, agents[1:], strict=False):
        cost = sum(alignment_cost(one[:, dim], other[:, dim])[0] for dim in range(one.shape[1]))
        terms.append(cost / (6 * max(len(one), len(other))))
    return float(1 - _K * np.mean(terms))


def ct_ers_parent(ecs: float, ebs: float | None, ess: float) -> float:
    """Return 0.35, 0.35 and 0.3 of the scores over turns, or 0.6 ECS + 0.4 ESS where no balance was called for."""
    return 0.6 * ecs + 0.4 * ess if ebs is None else 0.35 * ecs + 0.35 * ebs + 0.3 * ess


def extreme_dimensions(user: Course) -> list[int]:
    """Return the dimensions in which the user's mean lies beyond `EXTREME`."""
    means = np.asarray(user, dtype=np.float64).mean(axis=0)
    return [
        dim for dim, mean in enumerate(means.tolist()) if EXTREME[dim][0] * mean > EXTREME[dim][0] * EXTREME[dim][1]
    ]


def ecs(user: Course, agent: Course) -> float | None:
    """Return emotional consistency: 1 less the mean distance along the alignment, over valence and arousal, over 2."""
    if min(len(user), len(agent)) == 0:
        return None
    return 1 - sum(_distance(user[:, dim], agent[:, dim]) for dim in (0, 1)) / 2 / _RANGE


def ebs(user: Course, agent: Course) -> float | None:
    """Return emotional balance: the same towards the user's course moved by `BALANCE`, over its extreme dimensions."""
    if min(len(user), len(agent)) == 0 or not (dims := extreme_dimensions(user)):
        return None
    wanted = np.clip(np.asarray(user, dtype=np.float64) + np.array(BALANCE[: user.shape[1]]), -1, 1)
    return 1 - sum(_distance(wanted[:, dim], agent[:, dim]) for dim in dims) / len(dims) / _RANGE


def ess(agent: Course) -> float | None:
    """Return emotional steadiness: 1 less half the mean step, those below `JUMP` counting 0; None below two points."""
    if len(agent) < 2:
        return None
    steps = np.abs(np.diff(np.asarray(agent, dtype=np.float64), axis=0))
    return float(1 - np.where(steps > JUMP, steps, 0.0).mean() / _RANGE)


def ers(consistency: float | None, balance: float | None, steadiness: float | None) -> float | None:
    """Return the mean of the scores that are there, of weights 0.4, 0.4 and 0.2."""
    parts = [
        (score, weight)
        for score, weight in ((consistency, 0.4), (balance, 0.4), (steadiness, 0.2))
        if score is not None
    ]
    return sum(score * weight for score, weight in parts) / sum(weight for _, weight in parts) if parts else None


def concordance(measured: Sequence[float], wanted: Sequence[float]) -> float | None:
    """Return the concordance correlation coefficient, in [-1, 1], with population variances; None for fewer than two.

    0 where one of them is constant, whose correlation does not exist, and 1 where both are one and the same constant.
    Source: Lin 1989, doi 10.2307/2532051.

    Raises:
        ValueError: the lengths differ.
    """
    if len(measured) != len(wanted):
        raise ValueError(f"{len(measured)} values but {len(wanted)} to compare with; want one each")
    if len(measured) < 2:
        return None
    ours, theirs = np.asarray(measured, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    covariance = ((ours - ours.mean()) * (theirs - theirs.mean())).mean()
    spread = ours.var() + theirs.var() + (ours.mean() - theirs.mean()) ** 2
    return 1.0 if spread == 0 else float(2 * covariance / spread)


def _distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the mean absolute difference along the cheapest alignment."""
    cost, length = alignment_cost(first, second)
    return cost / length


__all__ = [
    "BALANCE",
    "Course",
    "EXTREME",
    "JUMP",
    "alignment_cost",
    "concordance",
    "ct_ers_parent",
    "ct_ess_parent",
    "ebs",
    "ebs_parent",
    "ecs",
    "ecs_parent",
    "ers",
    "ers_parent",
    "ess",
    "ess_parent",
    "extreme_dimensions",
]

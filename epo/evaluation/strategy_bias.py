"""Strategy bias and quality: which strategies a system prefers whatever is called for, and how often it is right."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OTHERS = "others"
"""What a strategy is read as that no gold reply has."""

_ROUNDS = 20


@dataclass(frozen=True)
class StrategyScores:
    """How a system chooses strategies.

    Attributes:
        bias: B, the spread of the preferences: 0 where none is preferred.
        quality: Q, macro-F1.
        weighted_f1: F1 weighted by how often each strategy is called for.
        preferences: by strategy, 1 where it is neither preferred nor avoided.
    """

    bias: float
    quality: float
    weighted_f1: float
    preferences: dict[str, float]


def strategy_scores(predicted: Sequence[str | None], wanted: Sequence[str]) -> StrategyScores:
    """Score the strategies of replies.

    w_ij counts how often i is chosen where j is called for. The strength of each strategy in a Bradley-Terry model of
    these counts follows from sequential updates p_i <- [sum_j w_ij p_j / (p_i + p_j)] / [sum_j w_ji / (p_i + p_j)] over
    j other than i, divided by the geometric mean after each of 20 rounds, and at last scaled to a mean of 1; B is their
    population standard deviation.

    Args:
        predicted: of each reply; None, and what no gold reply has, counts as `OTHERS`.
        wanted: of each gold reply.

    Raises:
        ValueError: there is no reply, or the lengths differ.

    Source: Kang et al. 2024, arXiv 2402.13211. Where nothing is ever chosen in a strategy's place the ratio has no
    denominator, and it keeps its strength; one that is never chosen in another's place has none, and is left out of the
    geometric mean (our choices).
    """
    from sklearn.metrics import f1_score

    if not wanted:
        raise ValueError("no reply has a strategy")
    names = sorted(set(wanted))
    read = [name if name in names else OTHERS for name in predicted]
    pairs = Counter(zip(read, wanted, strict=True))
    counts_SS = np.array([[pairs[chosen, called] for called in names] for chosen in names], dtype=np.float64)
    strengths = preference_strengths(counts_SS)
    return StrategyScores(
        bias=float(np.std(strengths)),
        quality=float(f1_score(list(wanted), read, labels=names, average="macro", zero_division=0.0)),
        weighted_f1=float(f1_score(list(wanted), read, labels=names, average="weighted", zero_division=0.0)),
        preferences=dict(zip(names, strengths.tolist(), strict=True)),
    )


def preference_strengths(
    counts_SS: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return Bradley-Terry strengths, float64 (S,), of mean 1.

    Args:
        counts_SS: how often the strategy of the row is chosen where that of the column is called for, float64.
    """
    size = len(counts_SS)
    others_SS = counts_SS * (1 - np.eye(size))
    strengths = np.ones(size)
    for _ in range(_ROUNDS):
        for i in range(size):
            sums = np.maximum(strengths[i] + strengths, 1e-300)
            wins, losses = (others_SS[i] * strengths / sums).sum(), (others_SS[:, i] / sums).sum()
            if losses > 0:
                strengths[i] = wins / losses
        is_chosen = strengths > 0
        if not is_chosen.any():
            return np.ones(size)
        strengths /= np.exp(np.log(strengths[is_chosen]).mean())
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = strengths * size / strengths.sum()
    return found


__all__ = ["OTHERS", "StrategyScores", "preference_strengths", "strategy_scores"]

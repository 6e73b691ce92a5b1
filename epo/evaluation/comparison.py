"""Comparisons: how far a row differs from its control, reply by reply, with intervals, corrected for many rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from epo.evaluation.kept_rows import ScoredRow
from epo.evaluation.metrics import resampled_means
from epo.evaluation.scoring import PerReply

_LEVEL = 0.05
CONTROLS = ("sft+chosen", "sft")
"""Rows that others are compared with where they are there, the first first; else it is the first row that is tested."""


@dataclass(frozen=True)
class Comparison:
    """One number of a row less that of its control, on the same replies.

    Attributes:
        row: that is compared.
        control: with which.
        column: key of the number.
        difference: mean over replies, weighted as the number is.
        interval: 95 %, over dialogues; None where all replies are of one.
        p: two-sided, of no difference; None without an interval.
        p_corrected: after Holm's correction over all rows that are compared in this column.
        verdict: "higher" or "lower" where the interval leaves 0 out and `p_corrected` is below 0.05, else "unclear".
        is_better: whether that is good, None where it is unclear or neither direction is good.
        num_replies: that both rows have a number for.
        num_dialogues: of how many dialogues.
    """

    row: str
    control: str
    column: str
    difference: float
    interval: tuple[float, float] | None
    p: float | None
    p_corrected: float | None
    verdict: Literal["higher", "lower", "unclear"]
    is_better: bool | None
    num_replies: int
    num_dialogues: int


def compare_rows(rows: Sequence[ScoredRow], columns: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Compare every row with its control in every column whose number is a mean over replies.

    A row that is tested with something changed (a variant) is compared with the same model unchanged, every other row
    with the control of `control_of`. Dialogues are resampled, each with all of its replies, for both rows alike (the
    paired bootstrap: Efron and Tibshirani 1993, doi 10.1201/9780429246593, chapter 16; over dialogues: our choice). p
    is twice the smaller share of resamples on one side of 0, counted with one more on each side; and no less than the
    chance that so many dialogues all differ in one direction, so that five or fewer show nothing (our choice).
    Correction: Holm 1979, jstor 4615733.

    Args:
        rows: of the report, in order.
        columns: of the report: `key`, `better`.
    """
    by_name = {row.values["name"]: row for row in rows}
    pairs = [(row, by_name[control]) for row in rows if (control := control_of(row.values, rows)) is not None]
    found: list[Comparison] = []
    for column in columns:
        compared = [_compared(row, control, column["key"]) for row, control in pairs]
        found += _corrected([one for one in compared if one is not None], column.get("better"))
    return found


def control_of(row: Mapping[str, Any], rows: Sequence[ScoredRow]) -> str | None:
    """Return the name of the row that a row is compared with; None for a control, and for baselines before it."""
    names = [other.values["name"] for other in rows]
    unchanged = str(row["name"]).rpartition(", ")[0]
    if row["kind"] == "variant":
        return unchanged if unchanged in names else None
    tested = [other.values["name"] for other in rows if other.values["kind"] == "main"]
    control = next((name for name in (*CONTROLS, *tested) if name in names), None)
    return None if row["name"] == control else control


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for being several, in their order: the smallest counts as often as there are any."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


def _compared(row: ScoredRow, control: ScoredRow, key: str) -> Comparison | None:
    """Return one comparison without its correction, None where the two rows have no numbers for the same replies."""
    ours, theirs = row.per_reply.get(key), control.per_reply.get(key)
    if ours is None or theirs is None or not _match(ours, theirs):
        return None
    differences_N = np.asarray(ours.values) - np.asarray(theirs.values)
    sizes = np.ones(len(differences_N)) if ours.weights is None else np.asarray(ours.weights)
    num_dialogues = len({name for name, size in zip(ours.dialogues, sizes, strict=True) if size > 0})
    interval = p = None
    if num_dialogues > 1:
        means_R = resampled_means(differences_N.tolist(), ours.weights, ours.dialogues)
        low, high = np.percentile(means_R, [2.5, 97.5])
        interval = (float(low), float(high))
        fewer = min(int((means_R <= 0).sum()), int((means_R >= 0).sum()))
        p = min(1.0, max(2 * (fewer + 1) / (len(means_R) + 1), 0.5 ** (num_dialogues - 1)))
    difference = float(np.average(differences_N, weights=sizes))
    names = (row.values["name"], control.values["name"])
    return Comparison(
        *names, key, difference, interval, p, None, "unclear", None, int((sizes > 0).sum()), num_dialogues
    )


def _match(ours: PerReply, theirs: PerReply) -> bool:
    """Tell whether two rows have numbers for the same replies, which count for both alike."""
    sizes = None if ours.weights is None else np.asarray(ours.weights)
    counts = bool(ours.values) and (sizes is None or bool(sizes.any()))
    return counts and ours.dialogues == theirs.dialogues and ours.weights == theirs.weights


def _corrected(compared: Sequence[Comparison], better: str | None) -> list[Comparison]:
    """Correct the p-values of one column for all of its rows, and say what they show."""
    known = [one for one in compared if one.p is not None]
    corrected = dict(zip((one.row for one in known), holm([one.p or 0.0 for one in known]), strict=True))
    found = []
    for one in compared:
        p, verdict = corrected.get(one.row), one.verdict
        if p is not None and p < _LEVEL and one.interval is not None:
            if one.interval[0] > 0:
                verdict = "higher"
            elif one.interval[1] < 0:
                verdict = "lower"
        is_better = None if better is None or verdict == "unclear" else verdict == better
        found.append(Comparison(**(vars(one) | {"p_corrected": p, "verdict": verdict, "is_better": is_better})))
    return found


__all__ = ["CONTROLS", "Comparison", "compare_rows", "control_of", "holm"]

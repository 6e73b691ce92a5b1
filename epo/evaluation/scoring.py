"""Means with their intervals over dialogues, as a suite returns them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epo.evaluation.metrics import bootstrap_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """A mean over some of the replies.

    Attributes:
        score: in [0, 1] for a share.
        interval: 95 %, over dialogues; None where they are of one dialogue.
        num_replies: how many.
        num_dialogues: of how many dialogues.
    """

    score: float
    interval: Interval | None
    num_replies: int
    num_dialogues: int


def scored(
    name: str, values: Sequence[float], dialogues: Sequence[Hashable], weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return a (weighted) mean as `name`, and its interval over dialogues as `name_interval`.

    Both are None where nothing counts; the interval also where all is of one dialogue, which says nothing of others.
    """
    sizes = np.ones(len(values)) if weights is None else np.asarray(weights)
    if not sizes.any():
        return {name: None, f"{name}_interval": None}
    has_others = len({dialogue for dialogue, size in zip(dialogues, sizes, strict=True) if size > 0}) > 1
    return {
        name: float(np.average(values, weights=sizes)),
        f"{name}_interval": bootstrap_interval(values, weights, dialogues) if has_others else None,
    }


def scored_cell(values: Sequence[float], dialogues: Sequence[Hashable]) -> Cell:
    """Return the mean of one number a reply, with its interval and of how many it is."""
    found = scored("score", values, dialogues)
    return Cell(found["score"], found["score_interval"], len(values), len(set(dialogues)))


__all__ = ["Cell", "Interval", "scored", "scored_cell"]

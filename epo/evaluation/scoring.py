"""Means with their intervals over dialogues, as a suite returns them, and the numbers of single replies behind them."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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


@dataclass(frozen=True)
class PerReply:
    """What a mean was taken of, so that two rows can be compared reply by reply.

    Attributes:
        values: one number a reply.
        dialogues: the dialogue of each.
        weights: how much each counts, None where all count alike.
    """

    values: list[float]
    dialogues: list[str]
    weights: list[float] | None = None


_RECORD: ContextVar[dict[str, PerReply] | None] = ContextVar("per_reply", default=None)


@contextmanager
def recorded() -> Iterator[dict[str, PerReply]]:
    """Collect, by the key of their column, the numbers of single replies that are scored inside."""
    found: dict[str, PerReply] = {}
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def record_replies(
    name: str, values: Sequence[float], dialogues: Sequence[Hashable], weights: Sequence[float] | None = None
) -> None:
    """Tell the numbers of single replies behind a column that has no interval; `scored` does it for those that have.

    Args:
        name: key of the column, whose number is the (weighted) mean of the values.
        values: one number a reply.
        dialogues: the dialogue of each.
        weights: how much each counts; None counts all alike.
    """
    record = _RECORD.get()
    if record is not None:
        plain = None if weights is None else [float(weight) for weight in weights]
        record[name] = PerReply([float(value) for value in values], [str(name) for name in dialogues], plain)


def scored(
    name: str, values: Sequence[float], dialogues: Sequence[Hashable], weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return a (weighted) mean as `name`, and its interval over dialogues as `name_interval`.

    Both are None where nothing counts; the interval also where all is of one dialogue, which says nothing of others.
    """
    record_replies(name, values, dialogues, weights)
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


__all__ = ["Cell", "Interval", "PerReply", "record_replies", "recorded", "scored", "scored_cell"]

"""Reconstruction: how much of a past turn's words a language model writes when it is given that turn's memory alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epo.evaluation.ages import age_label
from epo.evaluation.metrics import bootstrap_interval, rouge_f1s


@dataclass(frozen=True)
class Rebuilt:
    """A past turn, and what became of it.

    Attributes:
        dialogue_id: where it comes from.
        age: how many turns before the one to answer it was said; 1 is the turn before.
        words: what was said.
        said: what the language model wrote, greedily, without who spoke.
    """

    dialogue_id: str
    age: int
    words: str
    said: str


def rouge_of(turns: Sequence[Rebuilt]) -> list[float]:
    """Return ROUGE-L F1 of each turn's words and what was written (`epo.evaluation.metrics.rouge_f1s`)."""
    return rouge_f1s([turn.said for turn in turns], [turn.words for turn in turns])["rougeL"]


def chance_of(turns: Sequence[Rebuilt]) -> list[float]:
    """Return ROUGE-L F1 of each turn's words and what was written of a turn of another dialogue.

    What any sentence shares with any other; it is that of the next dialogue in order, and of a lone one its own.
    """
    said = [_another(turns, place).said for place in range(len(turns))]
    return rouge_f1s(said, [turn.words for turn in turns])["rougeL"]


def reconstruction_report(turns: Sequence[Rebuilt]) -> dict[str, Any]:
    """Return mean `rouge_l` with a 95 % interval over dialogues, `chance`, and the mean by age of the turn.

    Args:
        turns: at least one.
    """
    values = rouge_of(turns)
    by_age: dict[str, list[float]] = {}
    for turn, value in zip(turns, values, strict=True):
        by_age.setdefault(age_label(turn.age), []).append(value)
    return {
        "rouge_l": float(np.mean(values)),
        "rouge_l_interval": bootstrap_interval(values, clusters=[turn.dialogue_id for turn in turns]),
        "chance": float(np.mean(chance_of(turns))),
        "by_age": {age: {"rouge_l": float(np.mean(found)), "count": len(found)} for age, found in by_age.items()},
        "num_turns": len(turns),
    }


def _another(turns: Sequence[Rebuilt], place: int) -> Rebuilt:
    order = [*turns[place + 1 :], *turns[:place]]
    return next((turn for turn in order if turn.dialogue_id != turns[place].dialogue_id), turns[place])


__all__ = ["Rebuilt", "chance_of", "reconstruction_report", "rouge_of"]

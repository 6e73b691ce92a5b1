"""Told movements: which movements a description tells, and which way, read from its evidence.

What contradicts a clip is our choice: a description with a movement that went the other way there, or without any that
was told of it, which is all that can be known of action units: they have one direction.
"""

from collections.abc import Mapping
from dataclasses import fields

from epo.data.corpora.builtin.face import Course
from epo.data.describers.builtin_cues import EITHER_WAY

Movement = tuple[str, int]
"""A movement's name and its direction: 1 upwards or more, -1 downwards or less, 0 where only its size can be seen."""

_WHEN = frozenset(field.name for field in fields(Course))


def told_movements(evidence: Mapping[str, float]) -> frozenset[Movement]:
    """Return the movements behind a description: of `AU12: 1.4` it is up, of `brow_lift: -0.1` down.

    Args:
        evidence: of a line of descriptions.jsonl; how a movement runs in time (`onset_s` and the like) is none.
    """
    return frozenset(
        (name, 0 if name in EITHER_WAY else 1 if value > 0 else -1)
        for name, value in evidence.items()
        if name not in _WHEN and value != 0
    )


def contradict(first: frozenset[Movement], second: frozenset[Movement]) -> bool:
    """Tell whether some movement goes opposite ways, or none is told by both; who tells none contradicts nothing."""
    return bool(first and second) and (num_opposed(first, second) > 0 or not first & second)


def num_opposed(first: frozenset[Movement], second: frozenset[Movement]) -> int:
    """Count the movements that both tell, in opposite directions."""
    return len({(name, -way) for name, way in first if way} & second)


__all__ = ["Movement", "contradict", "num_opposed", "told_movements"]

"""Sentences about movements: which move, which way, how strongly, how they begin and how they end.

Nothing here knows an emotion; the words are our own. Several wordings say the same, drawn by a seed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Strength = Literal["slight", "clear", "strong"]

_STRENGTHS: dict[Strength, tuple[str, ...]] = {
    "slight": ("slightly", "a little"),
    "clear": ("clearly", "noticeably"),
    "strong": ("strongly", "markedly"),
}
_BEGINS = {
    "at once": ("From the start", "Right away", "At once"),
    "later": ("After a moment", "A little later", "With a short delay"),
}
_COURSES = {
    ("quick", "holds"): ("it comes quickly and stays to the end", "this appears suddenly and is held"),
    ("quick", "fades"): ("it comes quickly and fades towards the end", "this appears suddenly, then gives way"),
    ("slow", "holds"): ("it grows gradually and stays to the end", "this builds up and is held"),
    ("slow", "fades"): ("it grows gradually and fades towards the end", "this builds up, then gives way"),
}


@dataclass(frozen=True)
class Movement:
    """One thing that moves: wordings such as "the brows rise", and how strongly it does."""

    wordings: Sequence[str]
    strength: Strength


@dataclass(frozen=True)
class Course:
    """How movements run: when they begin, how they come, how they end."""

    begins: Literal["at once", "later"]
    comes: Literal["quick", "slow"]
    ends: Literal["holds", "fades"]


def sentence(movements: Sequence[Movement], course: Course | None, rng: random.Random) -> str:
    """Write one sentence.

    Args:
        movements: at least one, the strongest first.
        course: of all of them; None says nothing about it.
        rng: draws the wordings.
    """
    said = [f"{rng.choice(m.wordings)} {rng.choice(_STRENGTHS[m.strength])}" for m in movements]
    body = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    if course is None:
        return body[0].upper() + body[1:] + "."
    begin = rng.choice(_BEGINS[course.begins])
    return f"{begin}, {body}; {rng.choice(_COURSES[course.comes, course.ends])}."


def strength_of(size: float, clear: float, strong: float) -> Strength:
    """Return the word for a size, by where clear and strong begin."""
    return "strong" if size >= strong else "clear" if size >= clear else "slight"


__all__ = ["Course", "Movement", "Strength", "sentence", "strength_of"]

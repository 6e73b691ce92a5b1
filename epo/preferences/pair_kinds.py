"""Kinds of pairs: in what the rejected reply is worse, so that each can be told apart in every number of a run."""

from typing import Literal, get_args

PairKind = Literal["emotion", "intensity", "contradiction", "neutral", "ranking"]
KINDS: tuple[PairKind, ...] = get_args(PairKind)

ABOUT: dict[PairKind, str] = {
    "emotion": "another emotion than the one that fits: the emotion flip of arXiv 2412.17572",
    "intensity": "the right emotion, too strong or too weak",
    "contradiction": "says of the user what the clip shows to be otherwise",
    "neutral": "the same content without any emotion",
    "ranking": "whatever people found worse; its emotions are not known",
}
"""What the rejected reply of each kind is. All but the first and the last are our choice."""


def usual_kind(has_emotions: bool) -> PairKind:
    """Return the kind of a pair that says none, by whether the emotions of both its replies are known."""
    return "emotion" if has_emotions else "ranking"


__all__ = ["ABOUT", "KINDS", "PairKind", "usual_kind"]

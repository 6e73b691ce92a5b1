"""The seven emotion labels, their aliases in public corpora, and which reply emotion fits which user emotion."""

import math
from typing import Literal, get_args

Emotion = Literal["angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]
EMOTIONS: tuple[Emotion, ...] = get_args(Emotion)
"""The label set of arXiv 2412.17572, in the order every classifier head uses."""


class UnknownEmotionError(ValueError):
    """An emotion label that no alias table knows."""


# MultiDialog writes "Disgusting", MELD nouns, IEMOCAP three letters; None means: the corpus marks it unusable.
_ALIASES: dict[str, dict[str, Emotion | None]] = {
    "multidialog": {
        "neutral": "neutral", "happy": "happy", "fear": "fearful", "angry": "angry",
        "disgusting": "disgust", "surprising": "surprised", "sad": "sad",
    },
    "meld": {
        "neutral": "neutral", "joy": "happy", "fear": "fearful", "anger": "angry",
        "disgust": "disgust", "surprise": "surprised", "sadness": "sad",
    },
    "iemocap": {
        "ang": "angry", "dis": "disgust", "exc": "happy", "fea": "fearful", "fru": "angry", "hap": "happy",
        "neu": "neutral", "sad": "sad", "sur": "surprised", "oth": None, "xxx": None,
    },
    "m3ed": {
        "anger": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy",
        "neutral": "neutral", "sad": "sad", "surprise": "surprised",
    },
    "topical_chat": {
        "angry": "angry", "disgusted": "disgust", "fearful": "fearful", "happy": "happy", "neutral": "neutral",
        "sad": "sad", "surprised": "surprised", "curious to dive deeper": "neutral",
    },
    "emodb": {
        "anger": "angry", "boredom": "neutral", "disgust": "disgust", "anxiety": "fearful", "fear": "fearful",
        "happiness": "happy", "sadness": "sad", "neutral": "neutral",
    },
}  # fmt: skip

# (valence, arousal) in [-1, 1], read off Russell's circumplex (1980); the exact numbers are our choice.
VALENCE_AROUSAL: dict[Emotion, tuple[float, float]] = {
    "angry": (-0.6, 0.8),
    "disgust": (-0.7, 0.3),
    "fearful": (-0.6, 0.7),
    "happy": (0.8, 0.5),
    "neutral": (0.0, 0.0),
    "sad": (-0.7, -0.5),
    "surprised": (0.2, 0.8),
}

# APPROPRIATENESS[user][reply] in [0, 1]. The cells of neutral, happy, angry and sad among each other are the
# table of AV-EMO-Reasoning (arXiv 2510.07355); every other cell is our choice: comfort for fear, shared
# aversion for disgust, shared surprise, and never an angry reply to someone who is hurt.
_FIT = {
    # reply: angry, disgust, fearful, happy, neutral, sad, surprised
    "angry": (0.4, 0.2, 0.2, 0.1, 0.8, 0.5, 0.2),
    "disgust": (0.3, 0.8, 0.2, 0.1, 0.5, 0.4, 0.4),
    "fearful": (0.1, 0.1, 0.3, 0.1, 0.5, 0.8, 0.2),
    "happy": (0.2, 0.1, 0.1, 1.0, 0.5, 0.2, 0.5),
    "neutral": (0.3, 0.2, 0.2, 0.6, 0.9, 0.4, 0.4),
    "sad": (0.4, 0.2, 0.3, 0.2, 0.6, 0.9, 0.2),
    "surprised": (0.1, 0.1, 0.3, 0.6, 0.5, 0.2, 0.9),
}
APPROPRIATENESS: dict[Emotion, dict[Emotion, float]] = {
    user: dict(zip(EMOTIONS, _FIT[user], strict=True)) for user in EMOTIONS
}


def parse_emotion(label: str, corpus: str | None = None) -> Emotion | None:
    """Map a corpus label to one of `EMOTIONS`.

    Args:
        label: the label as written in the corpus; case and outer blanks do not matter.
        corpus: a key of the alias tables, or None for this project's own labels.

    Returns:
        The label, or None where the corpus itself marks the row as unusable (IEMOCAP `oth`, `xxx`).

    Raises:
        UnknownEmotionError: the label is not in the table; the message lists those that are.
    """
    table: dict[str, Emotion | None] = {name: name for name in EMOTIONS}
    if corpus is not None:
        table = _ALIASES[corpus]
    key = label.strip().lower()
    if key not in table:
        raise UnknownEmotionError(f"unknown emotion {label!r}; want one of {', '.join(sorted(table))}")
    return table[key]


def fitting_emotion(user: Emotion) -> Emotion:
    """Return the most appropriate reply emotion for a user emotion (row maximum of `APPROPRIATENESS`)."""
    row = APPROPRIATENESS[user]
    return max(EMOTIONS, key=lambda reply: row[reply])


def emotional_distance(first: Emotion, second: Emotion) -> float:
    """Euclidean distance of two emotions in the valence-arousal plane, in [0, 2.83]."""
    return math.dist(VALENCE_AROUSAL[first], VALENCE_AROUSAL[second])

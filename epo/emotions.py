"""The seven emotion labels, and which reply emotion fits which user emotion."""

import math
from typing import Literal, get_args

Emotion = Literal["angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised"]
EMOTIONS: tuple[Emotion, ...] = get_args(Emotion)
"""The label set of arXiv 2412.17572, in the order every classifier head uses."""


class UnknownEmotionError(ValueError):
    """A label that is none of the seven, or that a label map does not know."""


Vad = tuple[float, float, float]
"""Valence, arousal and dominance, each in [-1, 1]."""

VAD_NAMES = ("valence", "arousal", "dominance")

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


def parse_emotion(label: str) -> Emotion:
    """Return one of `EMOTIONS` as written by this project; case and outer blanks do not matter.

    Labels of corpora are read with a map of theirs, `epo.data.labels.LabelMap`.

    Raises:
        UnknownEmotionError: the label is none of them; the message lists those that are.
    """
    key = label.strip().lower()
    for emotion in EMOTIONS:
        if key == emotion:
            return emotion
    raise UnknownEmotionError(f"unknown emotion {label!r}; want one of {', '.join(EMOTIONS)}")


def fitting_emotion(user: Emotion) -> Emotion:
    """Return the most appropriate reply emotion for a user emotion (row maximum of `APPROPRIATENESS`)."""
    row = APPROPRIATENESS[user]
    return max(EMOTIONS, key=lambda reply: row[reply])


def emotional_distance(first: Emotion, second: Emotion) -> float:
    """Euclidean distance of two emotions in the valence-arousal plane, in [0, 2.83]."""
    return math.dist(VALENCE_AROUSAL[first], VALENCE_AROUSAL[second])

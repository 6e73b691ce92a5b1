"""What is measured of every candidate pair, and the thresholds a pair must keep to."""

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import numpy as np

from compressor.words import split_words
from epo.data.replies import Reply
from epo.emotions import Emotion, emotional_distance
from epo.preferences.marginals import Floats
from epo.preferences.pair import is_same_text


class ThresholdError(ValueError):
    """A threshold that no pair could keep to; the message says what is wanted."""


@dataclass(frozen=True)
class Thresholds:
    """What a pair must keep to; a candidate outside of them is dropped, and the report says why."""

    min_emotion_distance: float = field(default=0.0, metadata={"help": "of the two labels, 0 to 2.83"})
    min_emotion_divergence: float = field(default=0.0, metadata={"help": "of emotions read from the words, 0 to 1"})
    min_similarity: float = field(default=0.0, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_similarity: float = field(default=1.0, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_length_ratio: float = field(default=3.0, metadata={"help": "longer over shorter reply, 1 or more"})
    min_script_share: float = field(default=0.8, metadata={"help": "letters in the gold reply's script, 0 to 1"})

    def __post_init__(self) -> None:
        """Refuse a ratio of the longer to the shorter reply that none can have.

        Raises:
            ThresholdError: it is below 1.
        """
        if self.max_length_ratio < 1:
            raise ThresholdError(f"max_length_ratio is {self.max_length_ratio}, want 1 or more")


class EmotionReader(Protocol):
    """Gives the emotion distribution of a text that stands, or might stand, in a gold reply's place."""

    def read(self, gold: Reply, text: str) -> Floats:
        """Return float64 (E,) in the order of `EMOTIONS`, summing to 1."""
        ...


class Examiner:
    """Scores candidates and says which may become pairs."""

    def __init__(self, limits: Thresholds, reader: EmotionReader) -> None:
        """Take the thresholds, and what reads emotions from words."""
        self._limits = limits
        self._reader = reader

    def accepts(self, gold: Reply, rejected: str, rejected_emotion: Emotion) -> bool:
        """Tell whether a candidate may become a pair."""
        return self.reason_to_drop(gold, rejected, self.score(gold, rejected, rejected_emotion)) is None

    def score(self, gold: Reply, rejected: str, rejected_emotion: Emotion) -> dict[str, float]:
        """Measure a rejected reply against the gold one.

        Returns:
            emotion_distance, of the two labels in the valence-arousal plane, in [0, 2.83];
            emotion_divergence, total variation of the emotions read from the two texts, in [0, 1];
            similarity, token F1 of the two texts, in [0, 1];
            length_ratio, tokens of the rejected reply over tokens of the gold one;
            script_share, share of the rejected reply's letters that are in the gold's main script, in [0, 1]. The last
            stands for a language check: it tells Chinese from English, not German from English.

        Source: our choice.
        """
        gold_tokens, tokens = split_words(gold.text), split_words(rejected)
        read = [self._reader.read(gold, text) for text in (gold.text, rejected)]
        return {
            "emotion_distance": emotional_distance(gold.known_emotion, rejected_emotion),
            "emotion_divergence": float(np.abs(read[0] - read[1]).sum() / 2),
            "similarity": token_f1(gold_tokens, tokens),
            "length_ratio": len(tokens) / max(1, len(gold_tokens)),
            "script_share": _script_share(gold.text, rejected),
        }

    def reason_to_drop(self, gold: Reply, rejected: str, scores: dict[str, float]) -> str | None:
        """Say why a candidate may not become a pair, in a few words that can be counted, or None if it may."""
        limits = self._limits
        if rejected.strip() == "":
            return "empty reply"
        if is_same_text(gold.text, rejected):
            return "same text as the gold reply"
        if scores["emotion_distance"] < limits.min_emotion_distance:
            return "emotion labels too near"
        if scores["emotion_divergence"] < limits.min_emotion_divergence:
            return "words too alike in emotion"
        if scores["similarity"] < limits.min_similarity:
            return "content too different"
        if scores["similarity"] > limits.max_similarity:
            return "content too similar"
        if not 1 / limits.max_length_ratio <= scores["length_ratio"] <= limits.max_length_ratio:
            return "length too different"
        if scores["script_share"] < limits.min_script_share:
            return "another language's script"
        return None


def words_or_mark(text: str) -> list[str]:
    """Split for a word classifier, which refuses texts that have no word at all: those get a mark instead."""
    tokens = split_words(text)
    return tokens if tokens else ["<no word>"]


def token_f1(first: list[str], second: list[str]) -> float:
    """Return the harmonic mean of the shares of tokens two texts have in common, counted with repetition."""
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / max(1, len(first) + len(second))


def _script_share(gold: str, rejected: str) -> float:
    scripts = Counter(_script(character) for character in gold if character.isalpha())
    letters = [_script(character) for character in rejected if character.isalpha()]
    if not scripts or not letters:
        return 1.0
    main = scripts.most_common(1)[0][0]
    return letters.count(main) / len(letters)


@cache  # as many as there are letters
def _script(letter: str) -> str:
    """Return the first word of a letter's Unicode name, such as LATIN or CJK."""
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]

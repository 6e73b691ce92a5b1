"""Emotions read from words: the one place where pairs ask for them, many texts at a time."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.marginals import Floats

_SAME = 1e-9  # a probability that moves by less is the same for every text


class EmotionReader(Protocol):
    """Gives the emotion distribution of a text that stands, or might stand, in a gold reply's place."""

    def read(self, gold: Reply, text: str) -> Floats:
        """Return float64 (E,) in the order of `EMOTIONS`, summing to 1."""
        ...


@runtime_checkable
class ReadsTogether(Protocol):
    """A reader that is faster with many texts at once."""

    def prepare(self, texts: Iterable[str]) -> None:
        """Read those texts that were not read yet, and remember what came of them."""
        ...


class Readings:
    """What a reader of emotions made of the texts it was given, and which emotions it can tell at all."""

    def __init__(self, reader: EmotionReader) -> None:
        """Take what reads emotions; nothing is read yet."""
        self._reader = reader
        self._known: dict[tuple[str, str], Floats] = {}
        self._lowest = np.full(len(EMOTIONS), np.inf)
        self._highest = np.full(len(EMOTIONS), -np.inf)

    def prepare(self, places: Iterable[tuple[Reply, str]]) -> None:
        """Read texts in the places of gold replies, those that were not read yet, at once."""
        places = list(places)
        if isinstance(self._reader, ReadsTogether):
            self._reader.prepare(text for _, text in places)
        for gold, text in places:
            key = (gold.dialogue_id, text)
            if key not in self._known:
                read = self._known[key] = self._reader.read(gold, text)
                self._lowest = np.minimum(self._lowest, read)
                self._highest = np.maximum(self._highest, read)

    def read(self, gold: Reply, text: str) -> Floats:
        """Return float64 (E,), what the reader makes of a text in a gold reply's place."""
        known = self._known.get((gold.dialogue_id, text))
        return self._reader.read(gold, text) if known is None else known

    def can_tell(self, emotion: Emotion) -> bool:
        """Tell whether this emotion's probability differs between the texts that were prepared.

        It does not where the reader was fitted on labels without it, or on one emotion alone.
        """
        place = EMOTIONS.index(emotion)
        return bool(self._highest[place] - self._lowest[place] > _SAME)


__all__ = ["EmotionReader", "Readings"]

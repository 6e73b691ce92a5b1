"""Utterance: one past turn and how it is written down, for the compressor and for a model that reads it as text."""

import re
from typing import NamedTuple

_SPEAKER = re.compile(r"^(?:user|assistant)(?: \([^()]*\))?: ")


def label(emotion: str | None) -> str:
    """Return the label that words of an emotion begin with, blank included; nothing where it is unknown."""
    return "" if emotion is None else f"({emotion}) "


class Utterance(NamedTuple):
    """One past turn: who spoke, "user" or "assistant", the words, and their emotion where the history tells it."""

    speaker: str
    text: str
    emotion: str | None = None

    @property
    def line(self) -> str:
        """The turn as the compressor reads it: "user: I met Mira.", or "user (happy): I met Mira."."""
        feeling = "" if self.emotion is None else f" ({self.emotion})"
        return f"{self.speaker}{feeling}: {self.text}"

    @property
    def message(self) -> dict[str, str]:
        """The turn as a message to a model that reads the history as text: its emotion as the label of a reply."""
        return {"role": self.speaker, "content": label(self.emotion) + self.text}


def words_of(line: str) -> str:
    """Return the words of an utterance's line, without who spoke and how it felt; all of a text that names nobody."""
    return _SPEAKER.sub("", line, count=1)


__all__ = ["Utterance", "label", "words_of"]

"""Past turns as they are told: who spoke, the words, and the emotion where the history tells emotions."""

from compressor.utterance import Utterance
from epo.data.dialogue import Turn


def utterance_of(turn: Turn, history_emotions: bool) -> Utterance:
    """Return a past turn as it is told; one without an emotion has none told either way."""
    return Utterance(turn.speaker, turn.text, turn.emotion if history_emotions else None)


__all__ = ["utterance_of"]

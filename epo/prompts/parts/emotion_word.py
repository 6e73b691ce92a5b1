"""Part `emotion_word`: the user's emotion as a word, where it is known and may be told; a clip says it later."""

from epo.prompts.emotion_label import label
from epo.prompts.part import Asked, Text


def _render(asked: Asked) -> str:
    return label(asked.current.emotion) if asked.names_emotion else ""


PART = Text("user", _render)

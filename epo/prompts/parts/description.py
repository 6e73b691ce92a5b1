"""Part `description`: in a sentence, how the current turn is spoken and what the face does; off by default.

The sentence stands in brackets (our choice), so that it is not taken for the user's words.
"""

from epo.prompts.part import Asked, Text


def _render(asked: Asked) -> str:
    said = asked.current.description
    return "" if said is None else f"[{said}] "


PART = Text("user", _render)

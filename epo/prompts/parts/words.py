"""Part `words`: what the user says in the current turn."""

from epo.prompts.part import Text

PART = Text("user", lambda asked: asked.current.text)

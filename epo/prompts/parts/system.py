"""Part `system`: the recipe's system prompt."""

from epo.prompts.part import Text

PART = Text("system", lambda asked: asked.system_prompt, may_hold_marks=True)

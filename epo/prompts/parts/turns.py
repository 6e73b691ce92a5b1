"""Part `turns`: the history written out, a message a turn."""

from epo.prompts.part import Past

PART = Past(is_memory=False)

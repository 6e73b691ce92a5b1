"""Part `memory`: the history as the MambaCompressor's memory tokens, k a turn."""

from epo.prompts.part import Past

PART = Past(is_memory=True)

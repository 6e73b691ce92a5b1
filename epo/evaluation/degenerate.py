"""Degenerate replies: the rule of `epo.judging`, which no judge and no suite goes around."""

from epo.judging.degenerate_text import is_degenerate

__all__ = ["is_degenerate"]

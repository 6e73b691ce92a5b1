"""Whether an English text denies something: a rewrite that denies what the gold reply affirms says something else."""

from compressor.words import split_words

# "no" is left out, for "Oh no" denies nothing. Our choice.
_NEGATIONS = frozenset("not never nothing none nobody neither nor cannot without ain't aint".split())
_BEFORE_NT = "do does did wo would could should is was were are has have had ca must need"
_WITH_NT = frozenset(verb + ending for verb in _BEFORE_NT.split() for ending in ("n't", "n’t", "nt"))


def denies(text: str) -> bool:
    """Tell whether a text holds a word of negation; in other languages than English it does not."""
    return any(word in _NEGATIONS or word in _WITH_NT for word in split_words(text))


__all__ = ["denies"]

"""What a reply does besides telling: it denies, asks, or speaks to its listener, and so must a rewrite of it."""

from compressor.words import split_words

# "no" is left out, for "Oh no" denies nothing. English; our choice.
_NEGATIONS = frozenset("not never nothing none nobody neither nor cannot without ain't aint".split())
_BEFORE_NT = "do does did wo would could should is was were are has have had ca must need"
_WITH_NT = frozenset(verb + ending for verb in _BEFORE_NT.split() for ending in ("n't", "n’t", "nt"))
_LISTENER = frozenset("you your yours yourself yourselves u ur".split())
_QUESTION_MARKS = frozenset("?？؟")


def changed_act(gold: str, rewrite: str) -> str | None:
    """Return what a rewrite does otherwise than the gold reply, in a few words; None where nothing is.

    It denies where the gold reply does not, or the reverse; it asks nothing where the gold reply asks; or it no longer
    speaks to the listener. A question more is none of these: surprise asks. Words of English; question marks of any
    language. Source: our choice, from rewrites that changed who did what.
    """
    if _denies(gold) != _denies(rewrite):
        return "denies what the gold reply affirms, or the reverse"
    if _asks(gold) and not _asks(rewrite):
        return "asks no more"
    if _addresses(gold) and not _addresses(rewrite):
        return "no longer speaks to the listener"
    return None


def _denies(text: str) -> bool:
    return any(word in _NEGATIONS or word in _WITH_NT for word in split_words(text))


def _asks(text: str) -> bool:
    return not _QUESTION_MARKS.isdisjoint(text)


def _addresses(text: str) -> bool:
    words = (word.replace("’", "'").partition("'")[0] for word in split_words(text))
    return not _LISTENER.isdisjoint(words)


__all__ = ["changed_act"]

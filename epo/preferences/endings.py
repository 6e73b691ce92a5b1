"""Whether a reply was cut off: it ends in the middle of a word, a sentence or a bracket where the gold one does not."""

import unicodedata

from compressor.words import split_words

# Words after which an English sentence goes on, whatever the mark behind them. Our choice.
_GO_ON = frozenset("the a an and or but my your our their its because i'm you're we're they're if very than".split())
_OPEN_MARKS = frozenset(",，、;；:：-–—&+=/\\([{（【「『“‘«")
_PAIRS = {"(": ")", "[": "]", "（": "）", "【": "】", "“": "”", "「": "」", "『": "』", "«": "»"}
_CLOSING = "\"'”’»)]}）】」』*_~ "


def is_cut_off(gold: str, text: str) -> bool:
    """Tell whether a text ends where no reply does, in a way that the gold reply does not end.

    It does where its last mark is none that ends a sentence, where its last word is one after which a sentence goes
    on, or where a bracket or quotation is never closed. People often leave out the last full stop, so where the gold
    reply ends on a plain word, so may the other.

    Source: our choice.
    """
    if unicodedata.category(text.rstrip()[-1:] or " ") == "So":
        return False  # a picture ends a message
    if _is_unclosed(text) and not _is_unclosed(gold):
        return True
    end, gold_end = _last_mark(text), _last_mark(gold)
    if end in _OPEN_MARKS and gold_end not in _OPEN_MARKS:
        return True
    if _ends_on_a_word(end) and not _ends_on_a_word(gold_end):
        return True
    last, gold_last = (split_words(one)[-1:] for one in (text, gold))
    return bool(last) and last[0] in _GO_ON and last != gold_last and not text.rstrip().endswith(("!", "?", "…", "..."))


def _last_mark(text: str) -> str:
    """Return the last character that ends something: closing marks and pictures after it are passed over."""
    said = text.rstrip()
    while said and (said[-1] in _CLOSING or unicodedata.category(said[-1]) in ("So", "Sk", "Mn", "Cf")):
        said = said[:-1]
    return said[-1:]


def _ends_on_a_word(mark: str) -> bool:
    return mark != "" and unicodedata.category(mark)[0] in "LN"


def _is_unclosed(text: str) -> bool:
    if text.count('"') % 2 == 1:
        return True
    return any(text.count(opening) > text.count(closing) for opening, closing in _PAIRS.items())


__all__ = ["is_cut_off"]

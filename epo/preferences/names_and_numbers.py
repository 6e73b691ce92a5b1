"""Names and numbers of a reply, as far as its script shows them: what a rewrite must keep, and may not add."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

# "one" is left out: "no one", "one of those". Our choice.
_NUMBER_WORDS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
).split()
_VALUES = {word: str(value) for value, word in enumerate(_NUMBER_WORDS, start=2)}
_VALUES |= {
    word: str(10 * tens)
    for tens, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_VALUES |= {"hundred": "100", "thousand": "1000", "million": "1000000", "dozen": "12"}

# Nouns have capitals there, so that capitals show no names.
_NOUNS_IN_CAPITALS = frozenset({"de", "lb"})
# Capitalised inside sentences without being names: exclamations of English, and "I" with what hangs on it.
_NO_NAMES = frozenset("i god gosh jesus christ lord goodness heaven heavens wow oh ugh ok okay yay yeah no yes".split())

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_STARTS_A_SENTENCE = re.compile(r"(?:^|[.!?…:;]|[\"“”«»‘(\[*\n—–]|\s-)[\s\"“”'‘’«»()\[\]*—–-]*$")


@dataclass(frozen=True)
class Mentions:
    """Names and numbers of a text.

    Attributes:
        names: words with a capital inside a sentence, in lower case; none in scripts without capitals, and none in
            languages that give one to every noun.
        shouted: words all in capitals inside a sentence, in lower case: an abbreviation, or only loud.
        numbers: runs of digits, and English number words as digits.
    """

    names: frozenset[str]
    shouted: frozenset[str]
    numbers: frozenset[str]


@dataclass(frozen=True)
class Comparison:
    """How a rewritten reply's names and numbers compare with those of the gold one.

    Attributes:
        kept: share of the gold's that the other has too, in [0, 1]; 1 where there are none.
        added: how many it has that the gold does not.
    """

    kept: float
    added: int


def compare_mentions(gold: str, other: str, language: str) -> Comparison:
    """Compare names and numbers of two texts.

    A name of the gold may stand anywhere in the other, in any case and with an ending ("Tom's"); a number in digits or
    as an English word. A word all in capitals that only the other has is taken for loud and not for a name.

    Args:
        gold: the reply to be rewritten.
        other: the rewritten one.
        language: code of both, such as "en".

    Source: our choice. A name that opens a sentence is not seen to be one.
    """
    ours, theirs = mentions_of(gold, language), mentions_of(other, language)
    words, gold_words = _words(other), _words(gold)
    wanted = [name in words for name in ours.names | ours.shouted]
    wanted += [number in theirs.numbers for number in ours.numbers]
    added = len(theirs.names - gold_words) + len(theirs.numbers - ours.numbers)
    return Comparison(sum(wanted) / len(wanted) if wanted else 1.0, added)


@lru_cache(maxsize=100_000)
def mentions_of(text: str, language: str) -> Mentions:
    """Return the names and numbers that a text shows.

    Args:
        text: any.
        language: its code.
    """
    plain = unicodedata.normalize("NFKC", text)
    numbers = {_plain_number(found) for found in _NUMBER.findall(plain)}
    if language == "en":
        numbers |= {_VALUES[word] for word in _words(plain) if word in _VALUES}
    names: set[str] = set()
    shouted: set[str] = set()
    if language not in _NOUNS_IN_CAPITALS:
        for found in _WORD.finditer(plain):
            word = found.group()
            is_inside = _STARTS_A_SENTENCE.search(plain, 0, found.start()) is None
            base = _base(word)
            if word[0].isupper() and is_inside and base not in _NO_NAMES and base not in _VALUES:
                (shouted if len(base) > 1 and word.isupper() else names).add(base)
    if len(shouted) > 2 and 2 * len(shouted) > len(_words(plain)):
        shouted = set()  # the whole is shouted, and shows no abbreviation
    return Mentions(frozenset(names), frozenset(shouted), frozenset(numbers))


@lru_cache(maxsize=100_000)
def _words(text: str) -> frozenset[str]:
    return frozenset(map(_base, _WORD.findall(unicodedata.normalize("NFKC", text))))


def _base(word: str) -> str:
    """Return a word in lower case without what an apostrophe joins to it."""
    return re.split("['’]", word.casefold())[0]


def _plain_number(found: str) -> str:
    """Return digits of any script as ASCII, without the marks that part thousands."""
    digits = "".join(str(unicodedata.digit(sign)) if sign.isdigit() else sign for sign in found)
    return re.sub(r"[.,](?=\d{3}(?:\D|$))", "", digits)


__all__ = ["Comparison", "Mentions", "compare_mentions", "mentions_of"]

"""What is measured of two replies' words: what they share, their lengths, their scripts."""

import unicodedata
from collections import Counter
from functools import cache, lru_cache

from compressor.words import split_words


def words_or_mark(text: str) -> list[str]:
    """Split for a word classifier, which refuses texts that have no word at all: those get a mark instead."""
    tokens = split_words(text)
    return tokens if tokens else ["<no word>"]


def token_f1(first: list[str], second: list[str]) -> float:
    """Return the harmonic mean of the shares of tokens two texts have in common, counted with repetition."""
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / max(1, len(first) + len(second))


def similarity(first: str, second: str) -> float:
    """Return the token F1 of two texts, in [0, 1]."""
    return token_f1(_tokens(first), _tokens(second))


def length_ratio(gold: str, other: str) -> float:
    """Return the words of a text over those of the gold one."""
    return len(_tokens(other)) / max(1, len(_tokens(gold)))


def highest_similarity(text: str, others: tuple[str, ...]) -> float:
    """Return the token F1 of a text with the likest of some others, in [0, 1]; 0 where there are none."""
    tokens = _tokens(text)
    highest = 0.0
    for other in dict.fromkeys(others):
        size, other_size = len(tokens), len(_tokens(other))
        # What two texts of these lengths can have in common at most: spares counting where it is no more.
        if 2 * min(size, other_size) > highest * (size + other_size):
            highest = max(highest, token_f1(tokens, _tokens(other)))
    return highest


def script_share(gold: str, rejected: str) -> float:
    """Return the share of a text's letters that are in the gold one's main script, in [0, 1].

    It stands for a language check: it tells Chinese from English, not German from English.
    """
    scripts = Counter(_script(character) for character in gold if character.isalpha())
    letters = [_script(character) for character in rejected if character.isalpha()]
    if not scripts or not letters:
        return 1.0
    main = scripts.most_common(1)[0][0]
    return letters.count(main) / len(letters)


def is_in_another_script(gold: str, said: str) -> bool:
    """Tell whether most letters of a text are not in the gold one's main script; never of a text without letters."""
    return script_share(gold, said) < 0.5


@lru_cache(maxsize=100_000)
def _tokens(text: str) -> list[str]:
    return split_words(text)


@cache  # as many as there are letters
def _script(letter: str) -> str:
    """Return the first word of a letter's Unicode name, such as LATIN or CJK."""
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]

"""Degenerate replies: nothing said, a label instead of words, or the same words over and over."""

import re
from functools import lru_cache

from compressor.words import is_unspaced, split_words
from epo.emotions import EMOTIONS

_LABEL = re.compile(rf"\(\s*(?:{'|'.join(EMOTIONS)})\s*\)", re.IGNORECASE)
_LABELS = frozenset(EMOTIONS)
_LONGEST_UNIT = 4  # words that may make up what is repeated
_REPEATS = 4
_REPEATS_OF_ONE_CHARACTER = 8  # where a character is a word: laughter is written with four


@lru_cache(maxsize=2**16)  # every suite asks it of the same replies
def is_degenerate(words: str) -> bool:
    """Tell whether the words of a reply, its own label taken off, are none that could be judged.

    Degenerate are, by our choice:

    - no word at all: empty, or marks only;
    - nothing but emotion labels, two or more, whatever marks stand around them ("sad, sad, sad");
    - labels among the words, as in "(sad)(sad) I": what the model says is its label over again, and a reader of words
      must not take it for words;
    - repetition: more than half of the words lie in one run of one to four words said four times or more ("the the
      the the"); of a single character of an unspaced script, eight times or more.
    """
    said = split_words(words)
    is_label_loop = len(said) != 1 and not set(said) - _LABELS
    return is_label_loop or _LABEL.search(words) is not None or 2 * _longest_loop(said) > len(said)


def _longest_loop(words: list[str]) -> int:
    """Return how many words the longest run of a repeated unit takes up, 0 where nothing is repeated often enough."""
    longest = 0
    for size in range(1, _LONGEST_UNIT + 1):
        length = size  # of the run that ends at a word, each word being the one `size` before it
        for place in range(size, len(words) + 1):
            if place < len(words) and words[place] == words[place - size]:
                length += 1
                continue
            if length >= size * _REPEATS:
                is_character = size == 1 and is_unspaced(words[place - 1])
                if not is_character or length >= _REPEATS_OF_ONE_CHARACTER:
                    longest = max(longest, length)
            length = size
    return longest

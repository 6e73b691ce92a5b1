"""What a word is: the one rule by which scores, pairs and the curriculum split texts of any language."""

import re
import unicodedata
from functools import cache

# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no blanks between words. Korean, Vietnamese and Hindi do.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ecd\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    A word is a run of letters, digits and their marks, with apostrophes inside it ("it's"). In scripts that write no
    blanks between words each character is a word, with the marks on it: such texts are compared by characters.
    Full-width and composed forms count as their plain ones. Our choice.
    """
    return _word_pattern().findall(plain_form(text))


def contains_words(text: str, words: str) -> bool:
    """Tell whether words stand in a text as they are, whatever their case and the blanks between them.

    They must be whole words ("Ann" is not in "Annie", but in "Ann's") as far as the script shows where words end: in
    those without blanks any place will do ("东京" is in "我在东京住").
    """
    parts = plain_form(words).split()
    if not parts:
        return False
    inside = rf"(?:[^\W{_UNSPACED}]|[{_marks()}])"  # of a word that blanks end
    before = "" if is_unspaced(parts[0][0]) else f"(?<!{inside})"
    after = "" if is_unspaced(parts[-1][-1]) else f"(?!{inside})"
    pattern = before + r"\s+".join(map(re.escape, parts)) + after
    return re.search(pattern, plain_form(text)) is not None


def plain_form(text: str) -> str:
    """Return a text as it is compared: NFKC, case folded, one kind of apostrophe."""
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def is_unspaced(word: str) -> bool:
    """Tell whether a word begins with a character of a script that writes no blanks between words."""
    return re.match(f"[{_UNSPACED}]", word) is not None


@cache
def _word_pattern() -> re.Pattern[str]:
    letter, marks = rf"[^\W_{_UNSPACED}]", f"[{_marks()}]"
    run = f"(?:{letter}{marks}*)+"
    return re.compile(f"[{_UNSPACED}]{marks}*|{run}(?:'{run})*")


@cache
def _marks() -> str:
    """Return the combining marks of the basic plane, as the inside of a character class."""
    return "".join(chr(point) for point in range(0x300, 0x10000) if unicodedata.category(chr(point))[0] == "M")

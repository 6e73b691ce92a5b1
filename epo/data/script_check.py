"""Which script a text is written in, and whether that is a script of the language it claims."""

import re
from collections import Counter
from functools import cache

# Letters of each script by their Unicode blocks: the common ones, enough to tell one script from another.
_BLOCKS = {
    "Latin": "A-Za-zÀ-ɏḀ-ỿ",
    "Greek": "Ͱ-Ͽἀ-῿",
    "Cyrillic": "Ѐ-ԯ",
    "Armenian": "԰-֏",
    "Hebrew": "֐-׿",
    "Arabic": "؀-ۿݐ-ݿࢠ-ࣿﭐ-﷿ﹰ-ﻼ",
    "Devanagari": "ऀ-ॿ",
    "Bengali": "ঀ-৿",
    "Gurmukhi": "਀-੿",
    "Gujarati": "઀-૿",
    "Tamil": "஀-௿",
    "Telugu": "ఀ-౿",
    "Kannada": "ಀ-೿",
    "Malayalam": "ഀ-ൿ",
    "Sinhala": "඀-෿",
    "Thai": "฀-๿",
    "Lao": "຀-໿",
    "Burmese": "က-႟",
    "Georgian": "Ⴀ-ჿ",
    "Ethiopic": "ሀ-፿",
    "Khmer": "ក-៿",
    "Kana": "぀-ヿ",
    "Hangul": "ᄀ-ᇿ㄰-㆏가-힣",
    "Han": "㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f",
}
_LETTERS = {script: re.compile(f"[{block}]") for script, block in _BLOCKS.items()}
_PLAIN = re.compile("[\x00-\x7f\u2000-\u206f]+")  # ASCII and typographic marks: most English texts hold nothing else

# ISO 639-1 (two letters; three where there are no two); a language that is not here is not checked.
_LATIN = (
    "en de fr es it pt nl sv da no nb nn fi is et lv lt pl cs sk sl hr bs hu ro sq tr az uz tk vi id ms tl fil sw af "
    "ca eu gl cy ga mt eo la ha yo ig zu xh so rw mg jv su"
)
_SCRIPTS: dict[str, frozenset[str]] = {
    **{language: frozenset({"Latin"}) for language in _LATIN.split()},
    **{language: frozenset({"Cyrillic"}) for language in "ru uk be bg mk kk ky tg mn".split()},
    **{language: frozenset({"Arabic"}) for language in "ar fa ur ps ug sd".split()},
    **{language: frozenset({"Devanagari"}) for language in "hi mr ne sa".split()},
    **{language: frozenset({"Han"}) for language in "zh yue wuu cmn".split()},
    "sr": frozenset({"Cyrillic", "Latin"}),
    "ja": frozenset({"Han", "Kana"}),
    "ko": frozenset({"Hangul", "Han"}),
    "el": frozenset({"Greek"}),
    "hy": frozenset({"Armenian"}),
    "he": frozenset({"Hebrew"}),
    "yi": frozenset({"Hebrew"}),
    "bn": frozenset({"Bengali"}),
    "as": frozenset({"Bengali"}),
    "pa": frozenset({"Gurmukhi", "Arabic"}),
    "gu": frozenset({"Gujarati"}),
    "ta": frozenset({"Tamil"}),
    "te": frozenset({"Telugu"}),
    "kn": frozenset({"Kannada"}),
    "ml": frozenset({"Malayalam"}),
    "si": frozenset({"Sinhala"}),
    "th": frozenset({"Thai"}),
    "lo": frozenset({"Lao"}),
    "my": frozenset({"Burmese"}),
    "ka": frozenset({"Georgian"}),
    "am": frozenset({"Ethiopic"}),
    "ti": frozenset({"Ethiopic"}),
    "km": frozenset({"Khmer"}),
}


def script_of(text: str) -> str | None:
    """Return the script that most letters of a text are in; None where it has no letter of a script we know."""
    if text.isascii() or not _PLAIN.sub("", text):
        return "Latin" if _LETTERS["Latin"].search(text) else None
    counts = Counter({script: len(letters.findall(text)) for script, letters in _LETTERS.items()})
    script, count = counts.most_common(1)[0]
    return script if count else None


def is_other_script(text: str, language: str) -> bool | None:
    """Tell whether a text is written in a script that its language is not.

    Args:
        text: the words.
        language: "en", "zh-CN"; case and what follows a hyphen or underscore do not count.

    Returns:
        None where the language is not known here, or the text has no letters.
    """
    expected = _expected(language)
    if expected is None or (script := script_of(text)) is None:
        return None
    return script not in expected


@cache
def _expected(language: str) -> frozenset[str] | None:
    return _SCRIPTS.get(re.split("[-_]", language.strip().lower())[0])


__all__ = ["is_other_script", "script_of"]

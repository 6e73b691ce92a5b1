"""Mojibake: UTF-8 that some program read as Windows-1252 or Latin-1 (`Ã©` for `é`), undone where that is certain."""

import re

# Character -> the byte it stands for: of Latin-1, and of Windows-1252 where that has another character.
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)}
_BYTES |= {
    bytes([byte]).decode("cp1252"): byte for byte in range(0x80, 0xA0) if bytes([byte]).decode("cp1252", "ignore")
}

_TAIL = "".join(re.escape(character) for character, byte in _BYTES.items() if byte < 0xC0)
_SEQUENCE = re.compile(f"[\xc2-\xdf][{_TAIL}]|[\xe0-\xef][{_TAIL}]{{2}}|[\xf0-\xf4][{_TAIL}]{{3}}")
# Leads that hardly stand before such a character in a real text: those of Latin-1's letters, of general punctuation,
# of pictures, and of the byte order mark and other forms.
_TELLING = "\xc2\xc3\xe2\xf0\xef"
_ENDS_SENTENCE = "…‹›‘’“”‚„–—«»"
_MIN_CHARS = 6  # of sequences with other leads in one text, before chance is ruled out (our choice)


def mend_mojibake(text: str) -> str:
    """Return a text with mojibake undone, however often it was done; the same text where it is not certain.

    It is certain where *every* character outside ASCII belongs to a sequence that is valid UTF-8, and one of the
    sequences is telling, or there are several: `É…` at the end of a French headline is left alone. Our choice.
    """
    while True:
        mended = _mend_once(text)
        if mended == text:
            return text
        text = mended


def looks_like_mojibake(text: str) -> bool:
    """Tell whether a text holds a sequence that hardly stands in a real one."""
    return any(
        match[0][0] in _TELLING and match[0][1] not in _ENDS_SENTENCE and _decode(match[0]) is not None
        for match in _SEQUENCE.finditer(text)
    )


def _mend_once(text: str) -> str:
    if not _SEQUENCE.search(text):
        return text
    is_telling, num_chars = False, 0
    for match in _SEQUENCE.finditer(text):
        if _decode(match[0]) is None:
            return text
        num_chars += len(match[0])
        is_telling = is_telling or (match[0][0] in _TELLING and not _is_capital_before_punctuation(text, match))
    is_all = num_chars == sum(not character.isascii() for character in text)
    if not is_all or not (is_telling or num_chars >= _MIN_CHARS):
        return text
    return _SEQUENCE.sub(lambda match: _decode(match[0]) or match[0], text)


def _decode(sequence: str) -> str | None:
    try:
        return bytes(_BYTES[character] for character in sequence).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_capital_before_punctuation(text: str, match: re.Match[str]) -> bool:
    """Tell whether this may be a headline's last letter: `AMANHÃ…`."""
    before = text[match.start() - 1 : match.start()]
    return match[0][0] in "\xc2\xc3" and before.isupper() and match[0][1] in _ENDS_SENTENCE


__all__ = ["looks_like_mojibake", "mend_mojibake"]

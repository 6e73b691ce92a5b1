"""Characters: which strings hold a text, and how what other programs did to the characters of one is undone."""

import re
import unicodedata
from typing import Any

from epo.data.findings import Findings
from epo.data.mojibake import looks_like_mojibake, mend_mojibake

# Unicode's Default_Ignorable_Code_Point and other characters without ink: fillers, the blank Braille cell, controls.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What goes at the ends. Joiners, variation selectors and marks of direction stay: they belong to the character before.
_OUTER = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
_OUTER += "".join(map(chr, range(0x2000, 0x200C)))  # spaces of every width, the last of none
_OUTER += "\u00ad\u115f\u1160\u180e\u2060\u2800\u3164\ufeff\uffa0"

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_C1 = re.compile("[\x80-\x9f]")
# Windows-1252 fills 27 of the 32 places that Latin-1 gives to control characters. Separators become blanks.
_REPAIRS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
_REMOVALS: dict[int, str | None] = dict.fromkeys([*range(0x09), *range(0x0E, 0x20), 0x7F, 0xFFFE, 0xFFFF])
_REMOVALS |= dict.fromkeys([0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x1F], " ")


def read_text(value: Any, what: str, kind: str, where: str, findings: Findings) -> str | None:
    """Return a string of a file as a text: mended, without blanks and invisible characters at its ends.

    Args:
        value: what stands in the file.
        what: its name, for the message, such as "'text'".
        kind: what the fault is to be called, such as "empty utterance".
        where: its place.
        findings: hears of what was mended (notes), and of a value that is no text (a fault): no string, nothing that
            can be seen in it, or half a character (a lone surrogate, which JSON can escape and UTF-8 cannot hold).

    Returns:
        The text; None where there was a fault.
    """
    if isinstance(value, str):
        if value.isascii() and value.isprintable():  # nothing to mend; most lines of most files
            text = value.strip()
        elif not is_encodable(value):
            findings.fault(kind, f"{where}: {what} holds half a character (a lone surrogate)", "write it whole")
            return None
        else:
            text = mend_text(value, where, findings)
        if text and (text[0].isalnum() or is_visible(text)):
            return text
    is_empty = isinstance(value, str)
    reason = f"{what} is empty" if is_empty else f"{what} must be a non-empty string"
    findings.fault(kind, f"{where}: {reason}", "write the words or leave it out")
    return None


def mend_text(text: str, where: str, findings: Findings) -> str:
    """Return a text as it was meant, in normal form C; each kind of change is noted.

    Mended are: UTF-8 that was read as Windows-1252, where that is certain; Windows-1252 that was read as Latin-1;
    control characters other than tab and line ends; blanks and invisible characters at the ends. Doing it twice changes
    nothing more.
    """
    while True:
        mended = text if text.isascii() else _mend_encoding(text, where, findings)
        if _CONTROLS.search(mended):
            findings.note("control characters: removed", f"{where}: {text[:60]!r}")
            mended = mended.translate(_REMOVALS)
        if not unicodedata.is_normalized("NFC", mended):
            findings.note("text not in Unicode's normal form C: put into it", where)
            mended = unicodedata.normalize("NFC", mended)
        bare = mended.strip()
        mended = bare.strip(_OUTER)
        if mended != bare:
            findings.note("invisible characters at the ends: removed", where)
        if mended == text:
            return text
        text = mended


def _mend_encoding(text: str, where: str, findings: Findings) -> str:
    mended = mend_mojibake(text)
    if mended != text:
        findings.note("UTF-8 that was read as Windows-1252: mended", f"{where}: {text[:60]!r}")
    elif looks_like_mojibake(text):
        findings.note("perhaps UTF-8 that was read as Windows-1252: left as it is", f"{where}: {text[:60]!r}")
    if _C1.search(mended):
        findings.note("Windows-1252 control characters: repaired", f"{where}: {text[:60]!r}")
        mended = mended.translate(_REPAIRS)
    if "\ufffd" in mended:
        findings.note("replacement character U+FFFD: letters were lost before", f"{where}: {text[:60]!r}")
    return mended


def is_encodable(text: str) -> bool:
    """Tell whether UTF-8 can hold a string: not with half a character, as JSON can escape it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_visible(text: str) -> bool:
    """Tell whether there is anything to read: a letter, a sign, a picture, and not only blanks and what has no ink."""
    rest = without_invisible(text)
    return any(not (c.isspace() or c == "\ufffd" or unicodedata.category(c)[0] == "M") for c in rest)


def without_invisible(text: str) -> str:
    """Return a text without the characters that have no ink; blanks stay."""
    return text if text.isascii() and text.isprintable() else _INVISIBLE.sub("", text)


def comparison_form(text: str) -> str:
    """Return what two texts share that differ only in case, blanks, compatible and invisible characters (NFKC)."""
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", without_invisible(text)).casefold()
        text = unicodedata.normalize("NFKC", folded)
    return " ".join(without_invisible(text.casefold()).split())


__all__ = ["comparison_form", "is_encodable", "is_visible", "mend_text", "read_text", "without_invisible"]

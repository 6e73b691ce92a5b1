"""Spoken label: an emotion label that stands in the words as well, `(sad) Oh no.`, and would be learnt twice."""

import re

from epo.data.findings import Findings
from epo.emotions import EMOTIONS

_LABEL = re.compile(rf"\(\s*(?:{'|'.join(EMOTIONS)})\s*\)\s*", re.IGNORECASE)


def without_label(text: str, what: str, where: str, findings: Findings) -> str:
    """Return the words of a turn whose emotion is known; an emotion label at their beginning is a fault, and left out.

    Args:
        text: the words.
        what: their name, for the message, such as "'text'".
        where: their place.
        findings: hears of the fault.
    """
    found = _LABEL.match(text)
    if found is None or found.end() == len(text):  # words that are nothing but a label stay
        return text
    place = f"{where}: {what} begins with {found[0].strip()!r}, which is put before the words once more"
    findings.fault("emotion label in the words", place, "take it out of the words")
    return text[found.end() :]


__all__ = ["without_label"]

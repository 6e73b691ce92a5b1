"""Transcripts from a side file: what a recogniser heard in a user's turn, in the place of the turn's own words."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from epo.data.characters import read_text
from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import Findings
from epo.data.side_files import SideKind, with_side_file


def _read_words(value: Any, what: str, where: str, findings: Findings) -> str | None:
    return read_text(value, what, "transcript without words", where, findings)


TRANSCRIPT = SideKind("transcript", {"text": _read_words})


def with_transcripts(
    dialogues: Sequence[Dialogue], path: str | Path, findings: Findings | None = None
) -> list[Dialogue]:
    """Return dialogues whose user turns say what a recogniser heard; turns that the file does not name stay.

    Noted, with the place: a transcript of an assistant's turn, which is left out, and one in another script than the
    turn's own words, which is taken.

    Args:
        dialogues: that the file points into.
        path: lines of `{"dialogue_id", "turn", "text"}`.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: as `read_side_file`.
    """
    return with_side_file(dialogues, path, TRANSCRIPT, _say, findings)


def _say(turn: Turn, line: dict[str, Any], place: str, findings: Findings) -> Turn:
    if turn.speaker != "user":
        findings.note("transcript of an assistant's turn: left out", place)
        return turn
    if script_of(line["text"]) != script_of(turn.text):
        findings.note("transcript in another script than the turn's words", place)
    return replace(turn, text=line["text"])


def script_of(text: str) -> str | None:
    """Return the script of most letters of a text, as Unicode names it ("LATIN", "CJK"); None without letters."""
    scripts = Counter(unicodedata.name(c, "").split(" ")[0] for c in text if c.isalpha())
    return scripts.most_common(1)[0][0] if scripts else None


__all__ = ["TRANSCRIPT", "script_of", "with_transcripts"]

"""Transcripts from a side file: what a recogniser heard in a user's turn, in the place of the turn's own words."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from epo.data.characters import read_text
from epo.data.dialogue import Dialogue
from epo.data.findings import Findings, StopAtFault
from epo.data.side_files import SideKind, read_side_file


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
    findings = StopAtFault() if findings is None else findings
    found = read_side_file(path, TRANSCRIPT, {dialogue.id: dialogue for dialogue in dialogues}, findings)
    heard = []
    for dialogue in dialogues:
        turns = list(dialogue.turns)
        for number, turn in enumerate(turns):
            line = found.get((dialogue.id, number))
            if line is None:
                continue
            place = f"{path}: dialogue {dialogue.id!r}, turn {number}"
            if turn.speaker != "user":
                findings.note("transcript of an assistant's turn: left out", place)
                continue
            if script_of(line["text"]) != script_of(turn.text):
                findings.note("transcript in another script than the turn's words", place)
            turns[number] = replace(turn, text=line["text"])
        heard.append(replace(dialogue, turns=tuple(turns)))
    return heard


def script_of(text: str) -> str | None:
    """Return the script of most letters of a text, as Unicode names it ("LATIN", "CJK"); None without letters."""
    scripts = Counter(unicodedata.name(c, "").split(" ")[0] for c in text if c.isalpha())
    return scripts.most_common(1)[0][0] if scripts else None


__all__ = ["TRANSCRIPT", "script_of", "with_transcripts"]

"""Checking: every fault of a dialogues file and of the media it names, not only the first."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.progress import show_progress
from epo.data.dialogue import Clip, DataError, scan_dialogues
from epo.data.examination_pool import ExaminationRecord, examine_clips
from epo.data.findings import CollectFaults
from epo.data.isolation import usable_cores
from epo.data.media import MediaLimits

LIMITS = MediaLimits()
"""How clips are read here: as stages read them that set no limits of their own."""


@dataclass
class CheckResult:
    """What a check found; each fault and note starts with `path:line`. A note costs nothing, a fault stops training."""

    num_dialogues: int = 0
    num_turns: int = 0
    num_clips: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the result for other programs."""
        return {
            "ok": not self.faults,
            "dialogues": self.num_dialogues,
            "turns": self.num_turns,
            "clips": self.num_clips,
            "faults": self.faults,
            "notes": self.notes,
        }


def check_file(path: Path, workers: int | None = None, decode: bool = True, fresh: bool = False) -> CheckResult:
    """Check each line of a dialogues file, and read each clip as training reads it.

    What was found in a clip is kept beside the file, so an interrupted check goes on where it stopped.

    Args:
        path: the file, or the folder that holds `dialogues.jsonl`.
        workers: processes that decode; None for one a core.
        decode: False only looks whether the media files exist.
        fresh: decode again what an earlier check has decoded.

    Raises:
        DataError: there is no such file.
    """
    path = dialogues_file(path)
    root = Path(os.path.realpath(path.parent))
    result = CheckResult()
    clips = _clips(path, result)
    if not decode:
        for _ in clips:
            pass
        result.faults.sort(key=_line_number)
        return result
    record = ExaminationRecord(root, LIMITS, fresh)
    examined = examine_clips(clips, usable_cores() if workers is None else workers, record)
    for where, _, report in show_progress(examined, "check", "clips", total=count_clips(path)):
        result.faults += [f"{where}: {fault}" for fault in report.faults]
        result.notes += [f"{where}: {note}" for note in report.notes]
    result.faults.sort(key=_line_number)
    result.notes.sort(key=_line_number)
    return result


def dialogues_file(path: Path) -> Path:
    """Return the dialogues file that a path means: itself, or `dialogues.jsonl` in the folder.

    Raises:
        DataError: there is none.
    """
    file = path / "dialogues.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: no such file; write it with `python launch/data.py import`, or see docs/data.md")
    return file


def _clips(path: Path, result: CheckResult) -> Iterator[tuple[str, Clip]]:
    """Yield the clips of the dialogues with where they are named; add the faults and notes of all lines."""
    findings = CollectFaults()
    for where, dialogue in scan_dialogues(path, findings):
        is_sound = not (findings.faults and findings.faults[-1].startswith(f"{where}:"))
        result.num_dialogues += is_sound
        result.num_turns += len(dialogue.turns) if is_sound else 0
        for index, turn in enumerate(dialogue.turns):
            if turn.clip is not None:
                result.num_clips += 1
                yield f"{where}: turn {index}", turn.clip
    result.faults += findings.faults
    result.notes += findings.note_lines()


def count_clips(path: Path) -> int:
    """Count clips roughly, for the progress bar alone."""
    with path.open("rb") as lines:
        return sum(line.count(b'"clip": {') + line.count(b'"clip":{') for line in lines)


def _line_number(fault: str) -> int:
    """Return the line of a `path:line: ...` fault; the path may itself hold colons, the message may too."""
    match = re.search(r":(\d+): ", fault)
    return 0 if match is None else int(match[1])


__all__ = ["LIMITS", "CheckResult", "check_file", "count_clips", "dialogues_file"]

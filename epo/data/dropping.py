"""Dropping: a dialogues file written anew without what is at fault in it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from epo.data.checking import LIMITS, dialogues_file
from epo.data.corpora.import_report import ImportReport
from epo.data.dialogue import DataError, Dialogue, Turn, scan_dialogues, with_halves, write_dialogues
from epo.data.examination_pool import ExaminationRecord


def write_sound(path: Path, target: Path) -> ImportReport:
    """Write a file that was just checked, without its faults, and return what was left out.

    Of a turn a label or half a clip may go, of a dialogue a turn; a dialogue goes where nothing is left of it or it has
    no id of its own, as in an import with `--on_error skip`.

    Args:
        path: the file, or its folder; clips are judged by what `check_file` found in them.
        target: a file in the same folder, since the paths of clips are relative to it.

    Raises:
        DataError: the target lies elsewhere or is the file itself, or nothing is left to write.
    """
    path = dialogues_file(path)
    root = Path(os.path.realpath(path.parent))
    real = Path(os.path.realpath(target))
    if real.parent != root or real == Path(os.path.realpath(path)):
        raise DataError(f"{target}: name another file in {path.parent}; the paths of clips are relative to that folder")
    report = ImportReport("skip")
    if write_dialogues(target, _sound(path, ExaminationRecord(root, LIMITS), report)) == 0:
        target.unlink()
        raise DataError(f"{path}: nothing in it can be used; mend the faults listed above")
    return report


def _sound(path: Path, record: ExaminationRecord, report: ImportReport) -> Iterator[Dialogue]:
    for where, dialogue in scan_dialogues(path, report):
        turns = (
            _without_faults(turn, f"{where}: turn {place}", record, report) for place, turn in enumerate(dialogue.turns)
        )
        yield replace(dialogue, turns=tuple(turns))


def _without_faults(turn: Turn, where: str, record: ExaminationRecord, report: ImportReport) -> Turn:
    seen = None if turn.clip is None else record.get(turn.clip)
    if turn.clip is None or seen is None:
        return turn
    for fault in seen.faults:
        report.fault("clip cannot be used", f"{where}: {fault}", "restore or remove it")
    audio = turn.clip.audio if seen.audio_fault is None else None
    video = turn.clip.video if seen.video_fault is None else None
    return with_halves(turn, audio, video)


__all__ = ["write_sound"]

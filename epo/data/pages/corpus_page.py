"""The page of a corpus: an index that a browser searches and sorts, and a page of its own for some dialogues.

The index is `index.html` and one script with the data, so that it works from a disk without a server. It shows every
dialogue with what a browser can play of its clips as they are; pages with waveforms, frames and previews of the rest
cost decoding, so only as many are written as are asked for.
"""

import bisect
import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from compressor.progress import show_progress
from epo.data.dialogue import Clip, Dialogue, Turn
from epo.data.examination_pool import ExaminationRecord
from epo.data.isolation import Crash, isolated_map
from epo.data.pages.page_files import page_template
from epo.data.pages.preview import is_playable
from epo.data.pages.showing import write_page
from epo.emotions import EMOTIONS
from epo.files import write_whole

# By the ends of file names, for the index; a dialogue's own page looks into the file.
_PLAYABLE_ENDS = {".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".m4v", ".mov", ".webm", ".aac"}
_PAGE_LIMIT_S = 1800.0  # decoding and encoding the clips of one dialogue, of which there may be hundreds


@dataclass(frozen=True)
class _Entry:
    """What is known of a dialogue's clips: how many are at fault or silent, and the least loudness, None if unknown."""

    faulty: int
    silent: int
    quietest_dbfs: float | None

    @property
    def trouble(self) -> tuple[bool, float]:
        """Sorts what one should look at first to the front: faults, then the quietest."""
        return self.faulty == 0, 0.0 if self.quietest_dbfs is None else self.quietest_dbfs


def write_corpus_page(
    dialogues: Iterable[Dialogue], source: Path, folder: Path, record: ExaminationRecord, limit: int, workers: int
) -> tuple[int, list[str]]:
    """Write the index of a corpus and the pages of the dialogues that one should look at first.

    Args:
        dialogues: of the whole corpus.
        source: the file they come from, for the heading.
        folder: where `index.html` goes; media that browsers play are linked, not copied, so they must stay.
        record: what is known of the clips: loudness and faults. Empty where nothing was decoded.
        limit: how many dialogues get a page of their own, those with faults first, then the quietest.
        workers: processes that decode for them.

    Returns:
        How many pages were written beside the index, and a line for each that could not be.
    """
    rows: list[dict[str, Any]] = []
    entries: list[_Entry] = []
    chosen: list[tuple[tuple[bool, float], int, Dialogue]] = []
    for place, dialogue in enumerate(dialogues):
        entries.append(_look_up(dialogue, record))
        rows.append(_row(dialogue, entries[-1], folder))
        bisect.insort(chosen, (entries[-1].trouble, place, dialogue), key=lambda row: row[:2])
        del chosen[max(0, limit) :]
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    jobs = [(dialogue, f"pages/{place:06d}.html") for _, place, dialogue in chosen]
    faults = _write_pages(jobs, folder, workers)
    for (_, place, _), (_, address) in zip(chosen, jobs, strict=True):
        rows[place]["page"] = "" if address in faults else address
    data = {"emotions": EMOTIONS, "dialogues": rows}
    write_whole(
        folder / "dialogues.js", f"const CORPUS = {json.dumps(data, ensure_ascii=True, separators=(',', ':'))};\n"
    )
    splits = Counter("no split" if row["split"] is None else row["split"] for row in rows)
    page = page_template("corpus.html.j2").render(
        source=source,
        emotions=EMOTIONS,
        splits=dict(splits),
        count=len(rows),
        is_measured=any(entry.quietest_dbfs is not None or entry.faulty for entry in entries),
    )
    write_whole(folder / "index.html", page)
    return len(jobs) - len(faults), list(faults.values())


def _write_pages(jobs: list[tuple[Dialogue, str]], folder: Path, workers: int) -> dict[str, str]:
    """Write pages in worker processes; return why one could not be, by its address."""
    faults = {}
    todo = isolated_map(functools.partial(_write_one, folder=folder), jobs, workers, _PAGE_LIMIT_S)
    for (dialogue, address), result in show_progress(todo, "pages", "dialogues", total=len(jobs)):
        if isinstance(result, Crash):
            faults[address] = f"no page for {dialogue.id!r}: a clip of it {result.reason}; `check` names it"
    return faults


def _write_one(job: tuple[Dialogue, str], folder: Path) -> None:
    dialogue, address = job
    target = folder / address
    write_page(dialogue, target, functools.partial(_place, folder=folder), index="../index.html")


def _place(clip: Clip, make_preview: Callable[[], bytes], folder: Path) -> str:
    """Link the file itself where browsers play it and it holds both halves, else write a preview into `previews/`."""
    files = {path for path in (clip.audio, clip.video) if path is not None}
    if len(files) == 1 and is_playable(next(iter(files))):
        return _address(next(iter(files)), folder / "pages") + _fragment(clip)
    key = json.dumps([str(clip.audio), str(clip.video), clip.start_s, clip.end_s])
    name = hashlib.sha256(key.encode()).hexdigest()[:16] + ".mp4"
    target = folder / "previews" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{name}.{os.getpid()}.partial")
    partial.write_bytes(make_preview())
    partial.replace(target)
    return f"../previews/{name}"


def _address(path: Path, folder: Path) -> str:
    """Return the address of a file relative to a folder, as a browser wants it."""
    return quote(Path(os.path.relpath(path, os.path.realpath(folder))).as_posix())


def _fragment(clip: Clip) -> str:
    """Return the media fragment of a span (W3C Media Fragments 1.0, 4.2.1)."""
    if clip.start_s == 0 and clip.end_s is None:
        return ""
    return f"#t={clip.start_s:g}" + ("" if clip.end_s is None else f",{clip.end_s:g}")


def _look_up(dialogue: Dialogue, record: ExaminationRecord) -> _Entry:
    reports = [record.get(turn.clip) for turn in dialogue.turns if turn.clip is not None]
    known = [report for report in reports if report is not None]
    loudness = [report.rms_dbfs for report in known if report.rms_dbfs is not None]
    return _Entry(
        faulty=sum(bool(report.faults) for report in known),
        silent=sum(report.is_silent for report in known),
        quietest_dbfs=min(loudness, default=None),
    )


def _row(dialogue: Dialogue, entry: _Entry, folder: Path) -> dict[str, Any]:
    return {
        "id": dialogue.id,
        "split": dialogue.split,
        "group": dialogue.group,
        "page": "",
        "loudness": None if entry.quietest_dbfs is None else round(entry.quietest_dbfs, 1),
        "faulty": entry.faulty,
        "silent": entry.silent,
        "turns": [_turn_row(turn, folder) for turn in dialogue.turns],
    }


def _turn_row(turn: Turn, folder: Path) -> list[Any]:
    """Return speaker, words, emotion (-1 for none), name, labelled by, and (kind, address, file name) of each file."""
    emotion = -1 if turn.emotion is None else EMOTIONS.index(turn.emotion)
    media = []
    if turn.clip is not None:
        halves = {"video": turn.clip.video, "audio": turn.clip.audio}
        if turn.clip.audio == turn.clip.video:
            del halves["audio"]
        for kind, path in halves.items():
            if path is not None:
                is_known = path.suffix.lower() in _PLAYABLE_ENDS
                media.append([kind, _address(path, folder) + _fragment(turn.clip) if is_known else "", path.name])
    return [turn.speaker, turn.text, emotion, turn.name or "", turn.labelled_by or "", media]


__all__ = ["write_corpus_page"]

"""Examining many clips: in worker processes that may die, each clip once, what was found kept for the next time."""

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from epo.data.dialogue import Clip
from epo.data.examination import ClipReport, examine_clip
from epo.data.isolation import Crash, isolated_map
from epo.data.media import READER_VERSION, MediaLimits

Place = TypeVar("Place")

RECORD_NAME = "examined.jsonl"


class ExaminationRecord:
    """What was found in clips, kept as JSON lines beside the dialogues, so that an interrupted check goes on.

    A clip is known by its files' places, sizes and times of change, by its span, and by how it is read.
    """

    def __init__(self, folder: Path, limits: MediaLimits, fresh: bool = False) -> None:
        """Read what is kept in a folder, unless `fresh`; a line that was cut off is as if it were not there."""
        self._folder, self.limits = folder, limits
        self._path = folder / RECORD_NAME
        self._known: dict[str, ClipReport] = {}
        self._ends_whole = True  # False once the last line is one that was cut off
        if self._path.is_file() and not fresh:
            self._read()

    def get(self, clip: Clip) -> ClipReport | None:
        """Return the report kept for a clip, or None where it or its files are not as they were."""
        return self._known.get(self._key(clip))

    def add(self, clip: Clip, report: ClipReport) -> None:
        """Keep a report; in a folder that cannot be written it is kept for this run alone."""
        key = self._key(clip)
        self._known[key] = report
        line = ("" if self._ends_whole else "\n") + json.dumps({"key": key, "report": asdict(report)})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._ends_whole = True
        except OSError:
            pass  # a read-only data set is checked all the same

    def _key(self, clip: Clip) -> str:
        parts: list[Any] = [READER_VERSION, asdict(self.limits), clip.start_s, clip.end_s]
        for path in (clip.audio, clip.video):
            parts.append(None if path is None else self._stamp(path))
        return json.dumps(parts)

    def _stamp(self, path: Path) -> list[Any]:
        place = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        try:
            status = path.stat()
        except OSError:
            return [str(place)]
        return [str(place), status.st_size, status.st_mtime_ns]

    def _read(self) -> None:
        with self._path.open("rb") as lines:
            for line in lines:
                self._ends_whole = line.endswith(b"\n")
                try:
                    row = json.loads(line)
                    report = ClipReport(**row["report"] | {"notes": tuple(row["report"]["notes"])})
                    self._known[str(row["key"])] = report
                except (ValueError, KeyError, TypeError):
                    continue


def examine_clips(
    clips: Iterable[tuple[Place, Clip]], workers: int, record: ExaminationRecord
) -> Iterator[tuple[Place, Clip, ClipReport]]:
    """Yield the report on each clip, in no certain order.

    Args:
        clips: each with where it is named, which comes back beside its report.
        workers: processes that decode.
        record: says how clips are read; those it knows are not decoded again, and it learns of the others.
    """
    known: list[tuple[Place, Clip, ClipReport]] = []

    def unknown() -> Iterator[tuple[Place, Clip]]:
        for place, clip in clips:
            report = record.get(clip)
            if report is None:
                yield place, clip
            else:
                known.append((place, clip, report))

    examine = functools.partial(_examine_job, limits=record.limits)
    for (place, clip), found in isolated_map(examine, unknown(), workers):
        report = _report_of_crash(clip, found) if isinstance(found, Crash) else found
        record.add(clip, report)
        yield place, clip, report
        yield from _drain(known)
    yield from _drain(known)


def _examine_job(job: tuple[Any, Clip], limits: MediaLimits) -> ClipReport:
    return examine_clip(job[1], limits)


def _report_of_crash(clip: Clip, crash: Crash) -> ClipReport:
    """Blame both halves: which of them did it is not known."""
    faults = {
        kind: None if path is None else f"{path}: decoding it {crash.reason}; convert the file or remove it"
        for kind, path in (("audio", clip.audio), ("video", clip.video))
    }
    return ClipReport(audio_fault=faults["audio"], video_fault=faults["video"])


def _drain(known: list[Any]) -> Iterator[Any]:
    while known:
        yield known.pop()


__all__ = ["RECORD_NAME", "ExaminationRecord", "examine_clips"]

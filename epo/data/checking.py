"""Checking: every fault of a dialogues file and of the media it names, not only the first."""

import itertools
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.progress import show_progress
from epo.data.dialogue import Clip, DataError, scan_dialogues
from epo.data.findings import CollectFaults
from epo.data.media import MediaError, MediaLimits, decode_clip

# Long enough for any utterance, coarse enough to be quick: this is to find broken files, not to look at them.
_LIMITS = MediaLimits(max_audio_seconds=3600.0, video_fps=0.5, max_frames=1800, max_side_px=32)
_CLIPS_AHEAD = 256  # clips handed to the workers before the first result is awaited: bounds memory


@dataclass
class CheckResult:
    """What a check found; each fault starts with `path:line`."""

    num_dialogues: int = 0
    num_turns: int = 0
    num_clips: int = 0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the result for other programs."""
        return {
            "ok": not self.faults,
            "dialogues": self.num_dialogues,
            "turns": self.num_turns,
            "clips": self.num_clips,
            "faults": self.faults,
        }


def check_file(path: Path, workers: int = 1, decode: bool = True) -> CheckResult:
    """Check each line of a dialogues file, and decode each clip to its end.

    Args:
        path: the file, or the folder that holds `dialogues.jsonl`.
        workers: processes that decode; with one, decoding stays in this process.
        decode: False only looks whether the media files exist.

    Raises:
        DataError: there is no such file.
    """
    path = dialogues_file(path)
    result = CheckResult()
    clips = _clips(path, result)
    if not decode:
        for _ in clips:
            pass
        return result
    with _executor(workers) as pool:
        for fault in _decode_all(show_progress(clips, "check", "clips"), pool):
            result.faults.append(fault)
    result.faults.sort(key=_line_number)
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
    """Yield the clips of the dialogues with where they are named; note the faults."""
    findings = CollectFaults()
    findings.faults = result.faults
    for where, dialogue in scan_dialogues(path, findings):
        if not (result.faults and result.faults[-1].startswith(f"{where}:")):
            result.num_dialogues += 1
            result.num_turns += len(dialogue.turns)
        for index, turn in enumerate(dialogue.turns):
            if turn.clip is not None:
                result.num_clips += 1
                yield f"{where}: turn {index}", turn.clip


def _decode_all(clips: Iterator[tuple[str, Clip]], pool: Executor | None) -> Iterator[str]:
    """Yield a fault for each clip that cannot be decoded, a bounded number of clips at a time."""
    if pool is None:
        yield from (fault for fault in map(_decode_fault, clips) if fault is not None)
        return
    while batch := list(itertools.islice(clips, _CLIPS_AHEAD)):
        yield from (fault for fault in pool.map(_decode_fault, batch, chunksize=8) if fault is not None)


def _decode_fault(job: tuple[str, Clip]) -> str | None:
    where, clip = job
    try:
        decode_clip(clip, _LIMITS)
    except MediaError as error:
        return f"{where}: {error}"
    return None


@contextmanager
def _executor(workers: int) -> Iterator[Executor | None]:
    if workers <= 1:
        yield None
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of whatever is loaded
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        yield pool


def _line_number(fault: str) -> int:
    """Return the line of a `path:line: ...` fault; the path may itself hold colons, the message may too."""
    match = re.search(r":(\d+): ", fault)
    return 0 if match is None else int(match[1])


__all__ = ["CheckResult", "check_file", "dialogues_file"]

"""Unusable: which clips of an import training could not use, or should not, found by reading each of them once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from compressor.progress import show_progress
from epo.data.checking import LIMITS, count_clips
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.decoding.media_source import Kind
from epo.data.dialogue import Clip, Turn, read_dialogues, with_halves
from epo.data.examination import ClipReport
from epo.data.examination_pool import ExaminationRecord, examine_clips
from epo.data.probe import probe_clip, probe_media

# A clip that is this much longer or shorter than its row is other footage; smaller differences are noted (our choice).
_WRONG_RATIO, _WRONG_S = 2.0, 2.0
_NOTED_RATIO, _NOTED_S = 1.25, 1.0

Place = tuple[str, int]  # dialogue id and turn


@dataclass
class Unusable:
    """The halves of clips to leave out, and the length of those that stay, in seconds."""

    halves: dict[Place, set[Kind]] = field(default_factory=dict)
    seconds: float = 0.0

    def without(self, dialogue_id: str, index: int, turn: Turn) -> Turn:
        """Return a turn with those halves of its clip that can be used."""
        dropped = self.halves.get((dialogue_id, index))
        if dropped is None or turn.clip is None:
            return turn
        audio = None if "audio" in dropped else turn.clip.audio
        video = None if "video" in dropped else turn.clip.video
        return with_halves(turn, audio, video)


def find_unusable(path: Path, media: MediaFolder, report: ImportReport, *, decode: bool, workers: int) -> Unusable:
    """Examine every clip of a dialogues file.

    Args:
        path: the file, in the folder that holds the media.
        media: knows what the corpus says of the files.
        report: counts faults and notes, or stops at the first fault.
        decode: read clips as training does; False only opens them.
        workers: processes that decode.

    Raises:
        DataError: a clip is at fault, and `report` says to stop.
    """
    found = Unusable()
    examined = _examined(path, decode, workers)
    for place, clip, seen in show_progress(examined, "reading clips", "clips", total=count_clips(path)):
        found.seconds += _clip_seconds(clip, seen)
        dropped = _judge(f"dialogue {place[0]}: turn {place[1]}", clip, seen, media, report)
        if dropped:
            found.halves[place] = dropped
    return found


def _examined(path: Path, decode: bool, workers: int) -> Iterable[tuple[Place, Clip, ClipReport]]:
    if not decode:
        return ((place, clip, probe_clip(clip)) for place, clip in _clips(path))
    return examine_clips(_clips(path), workers, ExaminationRecord(path.parent.resolve(), LIMITS))


def _clips(path: Path) -> Iterator[tuple[Place, Clip]]:
    for dialogue in read_dialogues(path):
        for index, turn in enumerate(dialogue.turns):
            if turn.clip is not None:
                yield (dialogue.id, index), turn.clip


def _judge(where: str, clip: Clip, seen: ClipReport, media: MediaFolder, report: ImportReport) -> set[Kind]:
    """Count what is wrong with a clip, and return the halves to leave out."""
    dropped: set[Kind] = set()
    told: set[str] = set()
    halves: list[tuple[Kind, Path | None, str | None]] = [
        ("audio", clip.audio, seen.audio_fault),
        ("video", clip.video, seen.video_fault),
    ]
    for kind, path, fault in halves:
        if path is None or fault is None:
            continue
        dropped.add(kind)
        if media.is_assumed(path) and _lacks(path, kind):
            report.note(f"clip without {kind} stream", f"{where}: {path.name}")
        elif str(path) not in told:  # a file that is both halves is one fault
            told.add(str(path))
            report.fault("clip cannot be used", f"{where}: {fault}", "restore or remove it")
    for note in seen.notes:
        report.note(_kind_of_note(note), f"{where}: {note}")
    if _is_other_footage(where, clip, seen, media, report):
        return {"audio", "video"}
    return dropped


def _lacks(path: Path, kind: Kind) -> bool:
    """Tell whether a file that could not be used was sound but for the missing stream."""
    try:
        probe = probe_media(path)
    except ValueError:
        return False
    return not (probe.has_audio if kind == "audio" else probe.has_video)


def _is_other_footage(where: str, clip: Clip, seen: ClipReport, media: MediaFolder, report: ImportReport) -> bool:
    """Compare a clip's length with its row; count what differs, and tell whether it differs too much."""
    path = clip.video if clip.audio is None else clip.audio
    row_s = None if path is None else media.row_seconds(path)
    clip_s = _reached_s(clip, seen)
    if path is None or row_s is None or clip_s == 0:
        return False
    ratio, apart_s = max(clip_s, row_s) / min(clip_s, row_s), abs(clip_s - row_s)
    word = "longer" if clip_s > row_s else "shorter"
    told = f"{where}: {path.name} lasts {clip_s:.1f} s, its row {row_s:.1f} s"
    if ratio > _WRONG_RATIO and apart_s > _WRONG_S:
        report.fault(f"clip is much {word} than its row", told, "see which of them is wrong")
        return True
    if ratio > _NOTED_RATIO and apart_s > _NOTED_S:
        report.note(f"clip is {word} than its row", told)
    return False


def _kind_of_note(note: str) -> str:
    """Return a note without its numbers, so that equal ones are counted together."""
    return note.split("(")[0].strip()


def _clip_seconds(clip: Clip, seen: ClipReport) -> float:
    """Return how long the turn of a clip is: its span, or the part of it that the files hold."""
    reached_s = _reached_s(clip, seen)
    return max(0.0, (reached_s if clip.end_s is None else min(clip.end_s, reached_s)) - clip.start_s)


def _reached_s(clip: Clip, seen: ClipReport) -> float:
    """Return where the longer half of a clip ends in its file, or what was read of it where that is not known."""
    ends = [end for end in (seen.audio_file_seconds, seen.video_file_seconds) if end is not None]
    read = [clip.start_s + length for length in (seen.audio_seconds, seen.video_seconds) if length is not None]
    return max(ends or read, default=0.0)


__all__ = ["Unusable", "find_unusable"]

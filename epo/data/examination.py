"""Examine a clip: what training would read of it, what is wrong with it, and how it sounds and looks."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from epo.data.decoding.audio import read_sound
from epo.data.decoding.completeness import cut_off_evidence
from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.media_source import Source, is_short
from epo.data.decoding.opening import Kind, MediaError
from epo.data.decoding.video import read_pictures
from epo.data.dialogue import Clip

SILENT_DBFS = -60.0
"""Sound whose RMS stays below this is called silent: a thousandth of full scale (our choice)."""
FLOOR_DBFS = -120.0
"""What digital silence measures, so that reports hold plain numbers."""

_TOO_LONG_S = 0.1  # of less than this nothing is said


@dataclass(frozen=True)
class ClipReport:
    """What was found in a clip; a half's values are None where the clip lacks it or it is at fault.

    Attributes:
        audio_fault: why training could not use the sound; None where it can.
        video_fault: the same for the pictures.
        audio_seconds: length of the sound that training reads.
        video_seconds: length of the picture that training samples.
        audio_file_seconds: where the file's sound really ends, counted from the file's beginning; None where the
            span ends before and the rest was not read.
        video_file_seconds: the same for its pictures.
        rms_dbfs: loudness of the sound that training reads, -120 to 0.
        peak_dbfs: its largest sample.
        is_silent: whether `rms_dbfs` is below `SILENT_DBFS`.
        num_frames: frames that training samples.
        is_frozen: whether all of them, at least two, show the same picture.
        notes: what a person should know and training can live with, in words, without the file's name.
    """

    audio_fault: str | None = None
    video_fault: str | None = None
    audio_seconds: float | None = None
    video_seconds: float | None = None
    audio_file_seconds: float | None = None
    video_file_seconds: float | None = None
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    is_silent: bool = False
    num_frames: int | None = None
    is_frozen: bool = False
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """The faults of both halves, each starting with its file; one that both share appears once."""
        found = [fault for fault in (self.audio_fault, self.video_fault) if fault is not None]
        return tuple(dict.fromkeys(found))


def examine_clip(clip: Clip, limits: MediaLimits) -> ClipReport:
    """Decode a clip just as training does, and measure it.

    Beyond what stops training, two things are faults: a span that ends well after both of its halves do, and a whole
    file that is cut off, even behind the part that training reads.

    Args:
        clip: what to examine.
        limits: those of the stage that will read it.

    Returns:
        The report; media that cannot be used are faults in it, never exceptions.
    """
    halves: dict[str, _Half] = {}
    if clip.audio is not None:
        halves["audio"] = _Half("audio", clip.audio)
    if clip.video is not None:
        halves["video"] = _Half("video", clip.video)
    values: dict[str, Any] = {}
    for half in halves.values():
        values |= half.examine(clip, limits)
    _judge_ends(clip, list(halves.values()))
    for kind, half in halves.items():
        values |= {f"{kind}_fault": half.fault, f"{kind}_seconds": half.seconds, f"{kind}_file_seconds": half.ends_s}
    notes = [note for half in halves.values() for note in half.notes]
    if values.get("is_silent"):
        notes.append(f"the sound is silent ({values['rms_dbfs']:.0f} dBFS)")
    if values.get("is_frozen"):
        notes.append("all sampled frames show the same picture")
    return ClipReport(**values, notes=tuple(dict.fromkeys(notes)))


@dataclass
class _Half:
    """The sound or the pictures of a clip; `reached_s` is where reading stopped, `ends_s` the stream's end if known."""

    kind: Kind
    path: Path
    fault: str | None = None
    seconds: float | None = None
    reached_s: float | None = None
    ends_s: float | None = None
    notes: list[str] = field(default_factory=list)

    def examine(self, clip: Clip, limits: MediaLimits) -> dict[str, Any]:
        """Decode it and return what was measured."""
        try:
            with Source.opened(self.path, self.kind) as source:
                if self.kind == "audio":
                    waveform = read_sound(source, clip.start_s, clip.end_s, limits)
                    values, self.seconds = _hear(waveform), len(waveform) / limits.sample_rate_hz
                else:
                    frames = read_pictures(source, clip.start_s, clip.end_s, limits)
                    values = _look(frames)
                    self.seconds = float(min(limits.cap_end(clip.start_s, clip.end_s), source.reached_s) - clip.start_s)
                self._read_on(source, clip, limits)
            return values
        except MediaError as error:
            self.fault, self.seconds = str(error), None
            return {}

    def _read_on(self, source: Source, clip: Clip, limits: MediaLimits) -> None:
        """Find where a stream really ends, as far as the clip lays claim to it."""
        if clip.end_s is None or clip.end_s - clip.start_s > limits.max_audio_seconds:
            source.read_on()
        self.reached_s = source.reached_s
        self.ends_s = source.reached_s if source.is_read else None
        wanted_s = (self.reached_s if clip.end_s is None else min(clip.end_s, self.reached_s)) - clip.start_s
        if wanted_s > limits.max_audio_seconds + _TOO_LONG_S:
            self.notes.append(f"lasts {wanted_s:.1f} s, of which the first {limits.max_audio_seconds:g} s are used")
        evidence = cut_off_evidence(self.path)
        if evidence is not None and clip.end_s is None:
            raise MediaError(
                f"{self.path}: {self.kind} ends at {self.reached_s:.2f} s and {evidence}, so the file is cut off; "
                "restore it or remove it from the clip"
            )
        if evidence is not None:
            self.notes.append("the file is cut off, but not before the span ends")


def _judge_ends(clip: Clip, halves: list[_Half]) -> None:
    """Find a span that ends after its file does: a fault where all halves fall short, else a note."""
    sound = [half for half in halves if half.fault is None and half.reached_s is not None]
    if clip.end_s is None or not sound:
        return
    short = [half for half in sound if is_short(clip.start_s, half.reached_s or 0.0, clip.end_s)]
    for half in short:
        words = f"its {half.kind} ends at {half.reached_s:.2f} s, end_s is {clip.end_s:.2f}"
        if len(short) == len(sound):
            half.fault, half.seconds = f"{half.path}: {words}; correct end_s or restore the file", None
        else:
            half.notes.append(words)


def _hear(waveform: np.ndarray) -> dict[str, Any]:
    rms_dbfs = _dbfs(float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))))
    return {
        "rms_dbfs": rms_dbfs,
        "peak_dbfs": _dbfs(float(np.abs(waveform).max())),
        "is_silent": rms_dbfs < SILENT_DBFS,
    }


def _look(frames: np.ndarray) -> dict[str, Any]:
    is_frozen = len(frames) > 1 and bool((frames == frames[0]).all())
    return {"num_frames": len(frames), "is_frozen": is_frozen}


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DBFS, 20 * math.log10(max(amplitude, 1e-12)))


__all__ = ["FLOOR_DBFS", "SILENT_DBFS", "ClipReport", "examine_clip"]

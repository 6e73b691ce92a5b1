"""Examine a clip: what training would read of it, what is wrong with it, and how it sounds and looks."""

import math
from dataclasses import dataclass

import numpy as np

from epo.data.dialogue import Clip
from epo.data.media import MediaError, MediaLimits, decode_audio, decode_video

SILENT_DBFS = -60.0
"""Sound whose RMS stays below this is called silent: a thousandth of full scale (our choice)."""
FLOOR_DBFS = -120.0
"""What digital silence measures, so that reports hold plain numbers."""


@dataclass(frozen=True)
class ClipReport:
    """What was found in a clip; a half's values are None where the clip lacks it or it is at fault.

    Attributes:
        audio_fault: why training could not use the sound; None where it can.
        video_fault: the same for the pictures.
        audio_seconds: length of the sound that training reads.
        video_seconds: length of the picture that training samples.
        audio_file_seconds: where the file's sound really ends, counted from the file's beginning.
        video_file_seconds: where its pictures really end.
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

    Args:
        clip: what to examine.
        limits: those of the stage that will read it.

    Returns:
        The report; media that cannot be used are faults in it, never exceptions.
    """
    values: dict[str, object] = {}
    notes: list[str] = []
    if clip.audio is not None:
        try:
            waveform = decode_audio(clip.audio, clip.start_s, clip.end_s, limits)
            values |= _hear(waveform, limits)
        except MediaError as error:
            values["audio_fault"] = str(error)
    if clip.video is not None:
        try:
            values |= _look(decode_video(clip.video, clip.start_s, clip.end_s, limits))
        except MediaError as error:
            values["video_fault"] = str(error)
    if values.get("is_silent"):
        notes.append(f"the sound is silent ({values['rms_dbfs']:.0f} dBFS)")
    if values.get("is_frozen"):
        notes.append("all sampled frames show the same picture")
    return ClipReport(**values, notes=tuple(notes))  # type: ignore[arg-type]


def _hear(waveform: np.ndarray, limits: MediaLimits) -> dict[str, object]:
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    rms_dbfs = _dbfs(rms)
    return {
        "audio_seconds": len(waveform) / limits.sample_rate_hz,
        "rms_dbfs": rms_dbfs,
        "peak_dbfs": _dbfs(float(np.abs(waveform).max())),
        "is_silent": rms_dbfs < SILENT_DBFS,
    }


def _look(frames: np.ndarray) -> dict[str, object]:
    is_frozen = len(frames) > 1 and bool((frames == frames[0]).all())
    return {"num_frames": len(frames), "is_frozen": is_frozen}


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DBFS, 20 * math.log10(max(amplitude, 1e-12)))


__all__ = ["FLOOR_DBFS", "SILENT_DBFS", "ClipReport", "examine_clip"]

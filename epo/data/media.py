"""Decode a clip with PyAV: one mono waveform and a few upright RGB frames, bounded in time, number and size."""

from dataclasses import dataclass

import numpy as np

from epo.data.decoding.audio import MIN_AUDIO_SECONDS, decode_audio
from epo.data.decoding.formats import MEDIA_FORMATS
from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.opening import MediaError
from epo.data.decoding.video import decode_video, sample_times
from epo.data.dialogue import Clip

READER_VERSION = 2
"""Goes up whenever the same file may come out otherwise, so that what was kept of it is made anew."""


@dataclass(frozen=True)
class Media:
    """What was decoded: `waveform` float32 (S,) in [-1, 1], `frames` uint8 (F, H, W, 3) RGB; None where absent."""

    waveform: np.ndarray | None
    frames: np.ndarray | None


def decode_clip(clip: Clip, limits: MediaLimits) -> Media:
    """Decode both halves of a clip.

    Times count from the beginning of what starts first in a file, sound or picture, by the time stamps of both.

    Raises:
        MediaError: a file is empty, unreadable, of a kind that is not taken, cut off or too large, lacks the stream,
            or has too little between `start_s` and `end_s`.
    """
    return Media(
        waveform=None if clip.audio is None else decode_audio(clip.audio, clip.start_s, clip.end_s, limits),
        frames=None if clip.video is None else decode_video(clip.video, clip.start_s, clip.end_s, limits),
    )


__all__ = [
    "MEDIA_FORMATS",
    "MIN_AUDIO_SECONDS",
    "READER_VERSION",
    "Media",
    "MediaError",
    "MediaLimits",
    "decode_audio",
    "decode_clip",
    "decode_video",
    "sample_times",
]

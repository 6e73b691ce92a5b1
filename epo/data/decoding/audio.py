"""Decode a span of sound: every sample where its time stamp puts it, silence in between, channels averaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.media_source import Source
from epo.data.decoding.opening import MediaError

MIN_AUDIO_SECONDS = 0.025
"""One window of the spectrogram; of less sound there is none."""
# Decoders of compressed sound need some earlier packets before their output is right: MP3 borrows bits from up to a
# quarter of a second before.
_PREROLL_S = 0.5
# Time stamps are rounded and jitter; below this, sound is taken to go on without a gap. Viewers notice sound that comes
# 45 ms early (ITU-R BT.1359-1).
_DRIFT_S = 0.04
# Sound kept on either side of the span, so that the resampler starts and ends outside it.
_MARGIN_S = 0.05
_ROUNDING_S = 1e-3
# A frame's planes beyond the eighth are out of PyAV's bounds, and so is the end of eight.
_MAX_PLANES = 7
_SUM_TYPE = {"u8": np.float32, "s16": np.float32, "s32": np.float64, "flt": np.float32, "dbl": np.float64}
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


def decode_audio(path: Path, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Decode a span of a file's best audio stream, its channels averaged.

    Sound stands where its time stamps put it, counted from the beginning of whatever starts first in the file, sound
    or picture; where there is none it is silent.

    Returns:
        float32 (S,) in [-1, 1], at `limits.sample_rate_hz`; shorter than the span where the sound ends earlier.

    Raises:
        MediaError: as for `epo.data.media.decode_clip`.
    """
    with Source.opened(path, "audio") as source:
        return read_sound(source, start_s, end_s, limits)


def read_sound(source: Source, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Decode a span of an open source; arguments and results as for `decode_audio`."""
    end_s = limits.cap_end(start_s, end_s)
    tape = Tape(start_s - _MARGIN_S)
    for time_s, frame in source.decode(source.packets(start_s - _PREROLL_S)):
        begin_s = tape.end_s if time_s is None else time_s
        if begin_s >= end_s + _MARGIN_S:
            reached_s = end_s
            break
        tape.add(begin_s, frame)
    else:
        source.reached_s = max(source.reached_s, tape.end_s)
        reached_s = min(tape.end_s, end_s)
        source.check_complete(start_s, reached_s, end_s)
    _check_long_enough(source, start_s, end_s, reached_s)
    waveform = tape.play(start_s, reached_s, limits.sample_rate_hz)
    if not np.isfinite(waveform.sum()):
        waveform = np.nan_to_num(waveform, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(waveform, -1, 1, out=waveform)


@dataclass
class _Piece:
    """Mono sound without a gap at `rate_hz` from `begin_s` on.

    `samples` are float32 (S,), or decoded frames as they are where `kind` names their sample format.
    """

    begin_s: float
    rate_hz: int
    kind: str = ""
    samples: list[Any] = field(default_factory=list)
    length: int = 0

    @property
    def end_s(self) -> float:
        return self.begin_s + self.length / self.rate_hz


class Tape:
    """Lays frames down by their time."""

    def __init__(self, keep_from_s: float) -> None:
        self._keep_from_s = keep_from_s
        self._pieces: list[_Piece] = []
        self._packer = _Packer()
        self._is_behind = False

    @property
    def end_s(self) -> float:
        """Where the last frame ends, in seconds; 0 on an empty tape."""
        return self._pieces[-1].end_s if self._pieces else 0.0

    def add(self, time_s: float, frame: Any) -> None:
        """Lay down a frame; what lies before the part that is kept only moves the end."""
        rate_hz, count = frame.sample_rate, frame.samples
        if rate_hz <= 0 or count <= 0:
            return
        skip = 0
        last = self._pieces[-1] if self._pieces else None
        drift_s = 0.0 if last is None else time_s - last.end_s
        if last is None or drift_s > _DRIFT_S:
            self._pieces.append(_Piece(time_s, rate_hz))
        elif drift_s < (0 if self._is_behind else -_DRIFT_S):
            skip = round(-drift_s * rate_hz)  # heard already: what came first stays
            self._is_behind = skip >= count
            if self._is_behind:
                return
        # One channel can go to the resampler as it is, which converts formats on the way.
        kind = frame.format.name if skip == 0 and frame.layout.name == "mono" else ""
        piece = self._pieces[-1]
        if piece.length == 0:
            piece.kind, piece.rate_hz = kind, rate_hz
        elif (piece.rate_hz, piece.kind) != (rate_hz, kind):
            piece = _Piece(piece.end_s, rate_hz, kind)
            self._pieces.append(piece)
        if piece.end_s + (count - skip) / rate_hz <= self._keep_from_s:
            self._pieces = [_Piece(piece.end_s + (count - skip) / rate_hz, rate_hz)]
            return
        piece.samples.append(frame if kind else self._packer.mono(frame)[skip:])
        piece.length += count - skip

    def play(self, start_s: float, end_s: float, rate_hz: int) -> np.ndarray:
        """Return what lies between two moments, float32 (S,); zeros where nothing does."""
        waveform = np.zeros(round((end_s - start_s) * rate_hz), np.float32)
        for piece in self._pieces:
            at = round((piece.begin_s - start_s) * rate_hz)
            for sound in self._resampled(piece, rate_hz):
                part = sound[max(0, -at) : max(0, len(waveform) - at)]
                waveform[max(0, at) : max(0, at) + len(part)] = part
                at += len(sound)
        return waveform

    def _resampled(self, piece: _Piece, rate_hz: int) -> Iterator[np.ndarray]:
        """Yield a piece at another rate, block by block: large arrays cost more to make than to fill."""
        if piece.rate_hz == rate_hz:
            yield from (self._packer.mono(frame) for frame in piece.samples) if piece.kind else piece.samples
            return
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        for frame in piece.samples:
            if not piece.kind:
                frame = av.AudioFrame.from_ndarray(frame[None], format="flt", layout="mono")
                frame.sample_rate = piece.rate_hz
            for part in resampler.resample(frame):
                yield part.to_ndarray()[0]
        for part in resampler.resample(None):
            yield part.to_ndarray()[0]


class _Packer:
    """Averages the channels of a frame, of any number, order and sample format."""

    def __init__(self) -> None:
        self._resampler: Any = None
        self._key: Any = None

    def mono(self, frame: Any) -> np.ndarray:
        """Return float32 (S,), full scale 1."""
        channels = frame.layout.nb_channels
        name = frame.format.name.removesuffix("p")
        if name not in _FULL_SCALE or (frame.format.is_planar and channels > _MAX_PLANES):
            frame, name = self._packed(frame), "flt"
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, channels).T
        mixed = samples[0] if channels == 1 else samples.mean(0, dtype=_SUM_TYPE[name])
        if name == "u8":
            mixed = mixed.astype(np.float32) - 128
        scaled: np.ndarray = np.multiply(mixed, 1 / _FULL_SCALE[name], dtype=np.float32, casting="unsafe")
        return scaled

    def _packed(self, frame: Any) -> Any:
        """Interleave the channels as 32-bit floats, same rate and layout."""
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key != self._key:
            self._key, self._resampler = key, av.AudioResampler(format="flt")
        packed = self._resampler.resample(frame)
        if len(packed) != 1 or packed[0].samples != frame.samples:
            raise ValueError(f"no conversion of {frame.format.name} with {frame.layout.nb_channels} channels")
        return packed[0]


def _check_long_enough(source: Source, start_s: float, end_s: float, reached_s: float) -> None:
    """Raise where a span holds too little to make a spectrogram of."""
    if end_s - start_s < MIN_AUDIO_SECONDS:
        raise MediaError(
            f"{source.path}: the span from {start_s:.3f} to {end_s:.3f} s is shorter than the {MIN_AUDIO_SECONDS} s "
            "that sound needs; correct start_s and end_s"
        )
    if reached_s - start_s >= MIN_AUDIO_SECONDS - 1e-6:
        return
    ends_s = max(source.reached_s, reached_s)
    if 0 < start_s and ends_s <= start_s + _ROUNDING_S:
        raise MediaError(
            f"{source.path}: its audio ends at {ends_s:.2f} s, start_s is {start_s:.2f}; correct start_s or restore "
            "the file"
        )
    raise MediaError(
        f"{source.path}: holds {max(0.0, reached_s - start_s):.4f} s of audio from {start_s:.2f} s on, want at least "
        f"{MIN_AUDIO_SECONDS} s; correct start_s or leave the clip out"
    )


__all__ = ["MIN_AUDIO_SECONDS", "decode_audio", "read_sound"]

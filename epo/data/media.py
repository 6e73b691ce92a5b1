"""Decode a clip with PyAV: one mono waveform and a few upright RGB frames, bounded in time, number and size."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from epo.data.dialogue import Clip, DataError

# A file that ends this much before its own header says is cut off; sound files stray by a frame or two.
_MISSING_S, _MISSING_SHARE = 0.5, 0.1
# These formats carry no length, so FFmpeg guesses it from the bit rate.
_GUESSED_LENGTH = ("aac", "mp3")
# Where less than this lies before the span, decoding through it is cheaper than a jump.
_SEEK_FROM_S = 4.0
# Decoders of compressed audio need some earlier packets before their output is right.
_PREROLL_S = 0.2
_MAX_CODED_PIXELS = 2**26  # twice 8K; anything larger is refused before memory is taken
# Containers only: playlists and scripts, which make FFmpeg open other files or addresses, are refused.
MEDIA_FORMATS = "aac,aiff,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,mpegvideo,ogg,w64,wav"

Kind = Literal["audio", "video"]


class MediaError(DataError):
    """A media file cannot be used; the message starts with its path."""


@dataclass(frozen=True)
class MediaLimits:
    """How much of a clip is decoded, and how finely.

    A clip is cut to `max_audio_seconds` in both halves, so that sound and picture show the same moments. Where
    `video_fps` would give more than `max_frames`, that many are spread evenly over the clip. Frames whose longer
    side exceeds `max_side_px` are scaled down.
    """

    sample_rate_hz: int = 16000
    max_audio_seconds: float = 30.0
    video_fps: float = 4.0
    max_frames: int = 8
    max_side_px: int = 1024

    def __post_init__(self) -> None:
        """Refuse limits that leave nothing to decode.

        Raises:
            DataError: a limit is not above 0.
        """
        for name, value in vars(self).items():
            if not value > 0:
                raise DataError(f"media limit {name} is {value}, want more than 0")


@dataclass(frozen=True)
class Media:
    """What was decoded: `waveform` float32 (S,) in [-1, 1], `frames` uint8 (F, H, W, 3) RGB; None where absent."""

    waveform: np.ndarray | None
    frames: np.ndarray | None


def decode_clip(clip: Clip, limits: MediaLimits) -> Media:
    """Decode both halves of a clip.

    Raises:
        MediaError: a file is empty, unreadable, cut off or too large, lacks the stream, or has nothing between
            `start_s` and `end_s`.
    """
    return Media(
        waveform=None if clip.audio is None else decode_audio(clip.audio, clip.start_s, clip.end_s, limits),
        frames=None if clip.video is None else decode_video(clip.video, clip.start_s, clip.end_s, limits),
    )


def decode_audio(path: Path, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Decode a span of a file's best audio stream, its channels averaged.

    Returns:
        float32 (S,) in [-1, 1], at `limits.sample_rate_hz`; shorter than the span where the file ends earlier.

    Raises:
        MediaError: as for `decode_clip`.
    """
    with _Source.opened(path, "audio") as source:
        end_s = _cap_end(start_s, end_s, limits)
        resampler = av.AudioResampler(format="fltp", rate=limits.sample_rate_hz)
        wanted = max(1, round((end_s - start_s) * limits.sample_rate_hz))
        pieces: list[np.ndarray] = []
        skipped, decoded, reached_s = 0, 0, 0.0
        for time_s, until_s, frame in source.frames_from(start_s - _PREROLL_S):
            reached_s = until_s
            if until_s <= start_s:
                continue
            if not pieces:
                skipped = max(0, round((start_s - time_s) * limits.sample_rate_hz))
            pieces += [_mix_down(piece) for piece in resampler.resample(frame)]
            decoded = sum(map(len, pieces))
            if decoded >= skipped + wanted:
                break
        else:
            source.check_complete(start_s, reached_s, end_s)
            pieces += [_mix_down(piece) for piece in resampler.resample(None)]
        waveform = np.concatenate([np.zeros(0, np.float32), *pieces])[skipped : skipped + wanted]
        source.check_found(len(waveform), start_s)
    return np.clip(waveform, -1, 1)


def decode_video(path: Path, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Sample frames from a span of a file's best video stream, turned upright.

    Each is the picture on screen at its time in `sample_times`, so a variable frame rate needs no care.

    Returns:
        uint8 (F, H, W, 3), 1 <= F <= `limits.max_frames`; fewer than asked where the file ends earlier.

    Raises:
        MediaError: as for `decode_clip`.
    """
    with _Source.opened(path, "video") as source:
        end_s = _cap_end(start_s, end_s, limits)
        if source.length_s is not None:
            end_s = min(end_s, source.length_s)
        source.check_found(int(end_s > start_s), start_s)
        times_s = sample_times(start_s, end_s, limits)
        shown: list[np.ndarray] = []
        reached_s = 0.0
        for frame, count, until_s in source.pictures_at(times_s):
            reached_s = until_s
            if count > 0:
                shown += [_to_rgb(frame, limits.max_side_px, shown)] * count
        if len(shown) < len(times_s):
            source.check_complete(start_s, reached_s, end_s)
        source.check_found(len(shown), start_s)
    return np.stack(shown)


def sample_times(start_s: float, end_s: float, limits: MediaLimits) -> list[float]:
    """Choose when frames are sampled, in seconds: every 1 / video_fps, or `max_frames` spread evenly over the span."""
    span_s = end_s - start_s
    count = max(1, math.ceil(span_s * limits.video_fps - 1e-6))
    if count <= limits.max_frames:
        return [start_s + index / limits.video_fps for index in range(count)]
    return [start_s + span_s * index / limits.max_frames for index in range(limits.max_frames)]


@dataclass(frozen=True)
class _Source:
    """An open file and the stream to decode; times count from the file's beginning, in seconds.

    `length_s` is what the header promises for the stream, None where it does not say or only guesses.
    """

    path: Path
    kind: Kind
    container: Any
    stream: Any
    begin_s: float
    length_s: float | None

    @classmethod
    @contextmanager
    def opened(cls, path: Path, kind: Kind) -> Iterator["_Source"]:
        """Open the best stream of a kind, and name the file in whatever goes wrong before it is closed."""
        options = {
            "max_pixels": str(_MAX_CODED_PIXELS),
            "format_whitelist": MEDIA_FORMATS,
            "protocol_whitelist": "file",
        }
        try:
            if path.stat().st_size == 0:
                raise MediaError(f"{path}: the file is empty; restore it or remove it from the clip")
            with av.open(f"file:{path}", options=options) as container:
                if container.format.name == "wav":
                    _check_riff_complete(path)
                yield cls._choose(path, kind, container)
        except MediaError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None)  # FFmpeg's own words; the rest of its message is a number
            raise MediaError(
                f"{path}: cannot decode {kind} ({error if reason is None else reason}); convert or restore the file"
            ) from error

    @classmethod
    def _choose(cls, path: Path, kind: Kind, container: Any) -> "_Source":
        stream = container.streams.best(kind)
        if stream is None:
            raise MediaError(f"{path}: has no {kind} stream; remove it from the clip's {kind!r}")
        if stream.codec_context is None:
            raise MediaError(f"{path}: no decoder knows its {kind} stream; convert the file")
        if kind == "video" and stream.width * stream.height > _MAX_CODED_PIXELS:
            raise MediaError(f"{path}: frames of {stream.width}x{stream.height} px; scale it down to 8K or less")
        stream.codec_context.thread_count = 1  # ranks share the cores
        stream.codec_context.options = {"max_pixels": str(_MAX_CODED_PIXELS)}
        begin_s = 0.0 if container.start_time is None else container.start_time / av.time_base
        return cls(path, kind, container, stream, begin_s, _promised_length(container, stream, begin_s))

    def frames_from(self, start_s: float) -> Iterator[tuple[float, float, Any]]:
        """Yield (begin, end, frame) from a keyframe at or before `start_s` on, skipping packets that are broken."""
        if start_s > _SEEK_FROM_S:
            self._seek(start_s)
        next_s = 0.0
        for frame in self._decode():
            time_s = next_s if frame.time is None else frame.time - self.begin_s
            next_s = time_s + self._duration(frame)
            yield time_s, next_s, frame

    def pictures_at(self, times_s: list[float]) -> Iterator[tuple[Any, int, float]]:
        """Yield (frame, number of `times_s` at which it is on screen, when it leaves) until all are served.

        Times before the first frame show the first frame.
        """
        served, previous, until_s = 0, None, 0.0
        for time_s, end_s, frame in self.frames_from(times_s[0]):
            if previous is not None:
                count = _count_before(times_s, time_s) - served
                yield previous, count, time_s
                served += count
                if served == len(times_s):
                    return
            previous, until_s = frame, end_s
        if previous is not None:
            yield previous, _count_before(times_s, until_s) - served, until_s

    def check_complete(self, start_s: float, reached_s: float, end_s: float) -> None:
        """Raise if the stream ended well before both the span and the length its header promises."""
        if self.length_s is None:
            return
        due_s = min(end_s, self.length_s)
        if due_s - reached_s > max(_MISSING_S, _MISSING_SHARE * (due_s - start_s)):
            raise MediaError(
                f"{self.path}: {self.kind} ends at {reached_s:.2f} s where the header promises "
                f"{self.length_s:.2f} s, so the file is cut off; restore it or remove it from the clip"
            )

    def check_found(self, count: int, start_s: float) -> None:
        """Raise if the span held nothing."""
        if count == 0:
            length = "" if self.length_s is None else f" (it lasts {self.length_s:.2f} s)"
            raise MediaError(
                f"{self.path}: no {self.kind} from {start_s:.2f} s on{length}; correct start_s or restore the file"
            )

    def _seek(self, start_s: float) -> None:
        try:
            self.container.seek(int((start_s + self.begin_s) * av.time_base))
        except av.FFmpegError:
            pass  # not seekable: decode from the beginning and drop what comes before

    def _decode(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.InvalidDataError):
                return  # what is missing shows in the length
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                continue

    def _duration(self, frame: Any) -> float:
        if self.kind == "audio":
            return float(frame.samples / frame.sample_rate)
        if frame.duration:
            return float(frame.duration * frame.time_base)
        return 0.0 if self.stream.average_rate is None else float(1 / self.stream.average_rate)


def _promised_length(container: Any, stream: Any, begin_s: float) -> float | None:
    if container.format.name in _GUESSED_LENGTH:
        return None
    if stream.duration is not None:
        late_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base) - begin_s
        return float(stream.duration * stream.time_base) + late_s
    return None if container.duration is None else container.duration / av.time_base


def _check_riff_complete(path: Path) -> None:
    """Raise if a WAV file is shorter than its header says; FFmpeg trusts the file's size and would not tell."""
    with path.open("rb") as file:
        header = file.read(8)
    promised, size = int.from_bytes(header[4:8], "little") + 8, path.stat().st_size
    is_known = header[:4] == b"RIFF" and promised < 2**32  # a recorder writing to a pipe leaves the largest number
    if is_known and size < promised * (1 - _MISSING_SHARE):
        raise MediaError(
            f"{path}: holds {size} bytes where the header promises {promised}, so the file is cut off; "
            "restore it or remove it from the clip"
        )


def _cap_end(start_s: float, end_s: float | None, limits: MediaLimits) -> float:
    latest_s = start_s + limits.max_audio_seconds
    return latest_s if end_s is None else min(end_s, latest_s)


def _count_before(times_s: list[float], limit_s: float) -> int:
    # Half a millisecond of slack: a time that falls on a frame's first moment shows that frame.
    return sum(time_s < limit_s - 5e-4 for time_s in times_s)


def _mix_down(frame: Any) -> np.ndarray:
    """Average the channels of a planar float frame; float32 (S,)."""
    channels: np.ndarray = frame.to_ndarray()
    return channels.mean(0, dtype=np.float32)


def _to_rgb(frame: Any, max_side_px: int, earlier: list[np.ndarray]) -> np.ndarray:
    """Turn a frame upright and into RGB, uint8 (H, W, 3), at the size of the earlier ones if there are any."""
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise, as numpy counts
    scale = min(1.0, max_side_px / max(frame.width, frame.height))
    height, width = max(1, round(frame.height * scale)), max(1, round(frame.width * scale))
    if earlier:
        height, width = earlier[0].shape[:2] if quarter_turns % 2 == 0 else earlier[0].shape[1::-1]
    picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(picture, quarter_turns))

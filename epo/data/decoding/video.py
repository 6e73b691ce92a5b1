"""Sample frames from a span of a video: the picture on screen at each moment, upright, in square pixels and RGB."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.media_source import MAX_HELD_BYTES, Source, is_short
from epo.data.decoding.opening import MediaError
from epo.data.decoding.picture import Canvas

# Half a millisecond of slack: a time that falls on a frame's first moment shows that frame.
_SLACK_S = 5e-4
_USUAL_FRAME_S = 0.04  # of a single picture whose duration nothing tells
_MOST_FRAMES_HELD_BACK = 32  # by a decoder that puts pictures into order


def decode_video(path: Path, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Sample frames from a span of a file's best video stream, turned upright.

    Each is the picture on screen at its time in `sample_times`, so a variable frame rate needs no care. Where the
    stream really ends is read off its packets before the times are chosen.

    Returns:
        uint8 (F, H, W, 3), 1 <= F <= `limits.max_frames`; fewer than asked where the pictures end earlier.

    Raises:
        MediaError: as for `epo.data.media.decode_clip`.
    """
    with Source.opened(path, "video") as source:
        return read_pictures(source, start_s, end_s, limits)


def read_pictures(source: Source, start_s: float, end_s: float | None, limits: MediaLimits) -> np.ndarray:
    """Sample an open source; arguments and results as for `decode_video`."""
    packets, times_s, reached_s = _plan(source, start_s, end_s, limits)
    canvas = Canvas(source.stream, limits.max_side_px)
    shown: list[np.ndarray] = []
    for frame, count in _pictures_at(source, packets, times_s, reached_s):
        if count > 0:
            shown += [canvas.draw(frame)] * count
    if not shown:
        raise MediaError(f"{source.path}: no picture can be decoded from {start_s:.2f} s on; restore the file")
    return np.stack(shown)


def frame_times(path: Path, start_s: float, end_s: float | None, limits: MediaLimits) -> list[float]:
    """Return when `decode_video` would sample its frames, in seconds from the file's beginning; none is decoded.

    Raises:
        MediaError: as for `decode_video`, but for damage that only decoding shows.
    """
    with Source.opened(path, "video") as source:
        return _plan(source, start_s, end_s, limits)[1]


def _plan(
    source: Source, start_s: float, end_s: float | None, limits: MediaLimits
) -> tuple[Iterator[Any], list[float], float]:
    """Return the packets that a span needs, when its frames are sampled, and where it ends."""
    end_s = limits.cap_end(start_s, end_s)
    packets, ends_s = _read_ahead(source, start_s, end_s)
    source.reached_s = max(source.reached_s, ends_s)
    if ends_s < end_s:
        source.check_complete(start_s, ends_s, end_s)
    reached_s = min(end_s, ends_s)
    if reached_s <= start_s:
        raise MediaError(
            f"{source.path}: its video ends at {ends_s:.2f} s, start_s is {start_s:.2f}; correct start_s or restore "
            "the file"
        )
    return packets, sample_times(start_s, reached_s, limits), reached_s


def sample_times(start_s: float, end_s: float, limits: MediaLimits) -> list[float]:
    """Choose when frames are sampled, in seconds: every 1 / video_fps, or `max_frames` spread evenly over the span."""
    span_s = end_s - start_s
    count = max(1, math.ceil(span_s * limits.video_fps - 1e-6))
    if count <= limits.max_frames:
        return [start_s + index / limits.video_fps for index in range(count)]
    return [start_s + span_s * index / limits.max_frames for index in range(limits.max_frames)]


def _read_ahead(source: Source, start_s: float, end_s: float) -> tuple[Iterator[Any], float]:
    """Return the packets that a span needs, and where the stream ends if before the span does."""
    held: list[Any] = []
    held_bytes, stamps, ends_s, counted = 0, _Ends(source), 0.0, 0
    packets = source.packets(start_s)
    for packet in packets:
        begin_s = None if packet is None else stamps.add(packet)
        if held_bytes <= MAX_HELD_BYTES:
            held.append(packet)
            held_bytes += 0 if packet is None else packet.size
        if begin_s is not None and begin_s >= end_s:
            counted += 1
            # Times of presentation are never before those of decoding; without them, count what is held back.
            if source.is_timed or counted > _MOST_FRAMES_HELD_BACK:
                held.append(None)
                break
    ends_s = stamps.ends_s()
    if held_bytes <= MAX_HELD_BYTES:
        return iter(held), ends_s
    held.clear()
    source.reopen()
    return source.packets(start_s), ends_s


class _Ends:
    """Follows a stream's packets and tells where the last of them ends."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._latest_s, self._before_s, self._duration_s = -math.inf, -math.inf, 0.0
        rate = source.stream.average_rate
        self._frame_s = float(1 / rate) if rate else 0.0
        self._next_s = 0.0

    def add(self, packet: Any) -> float:
        """Note a packet; returns when it is decoded, before which nothing that follows is shown."""
        source = self._source
        stamp_s, duration_s = source.time_of(packet), (packet.duration or 0) * source.tick_s
        time_s = self._next_s if stamp_s is None else stamp_s
        self._next_s = time_s + (duration_s or self._frame_s or _USUAL_FRAME_S)
        if time_s > self._latest_s:
            self._before_s, self._latest_s, self._duration_s = self._latest_s, time_s, duration_s
        elif time_s > self._before_s:
            self._before_s = time_s
        return time_s if packet.dts is None else packet.dts * source.tick_s - source.begin_s

    def ends_s(self) -> float:
        """Return the end of the picture shown last; as long as the one before where nothing tells."""
        if self._latest_s == -math.inf:
            return 0.0
        gap_s = self._latest_s - self._before_s
        lasts_s = self._duration_s or (gap_s if gap_s < math.inf else 0.0) or self._frame_s or _USUAL_FRAME_S
        return self._latest_s + lasts_s


def timed_frames(source: Source, packets: Iterator[Any]) -> Iterator[tuple[float, float, Any]]:
    """Yield (when it appears, when the next does, frame); the last stays as long as it says."""
    rate = source.stream.average_rate
    frame_s = float(1 / rate) if rate else _USUAL_FRAME_S
    begin_s, next_s, previous = 0.0, 0.0, None
    for stamp_s, frame in source.decode(packets):
        time_s = next_s if stamp_s is None else stamp_s
        if previous is not None:
            yield begin_s, time_s, previous
        begin_s, next_s, previous = time_s, time_s + ((frame.duration or 0) * source.tick_s or frame_s), frame
    if previous is not None:
        yield begin_s, next_s, previous


def _pictures_at(
    source: Source, packets: Iterator[Any], times_s: list[float], reached_s: float
) -> Iterator[tuple[Any, int]]:
    """Yield (frame, number of `times_s` at which it is on screen) until all are served.

    Times before the first frame show the first frame.
    """
    served, until_s, last = 0, 0.0, None
    for _, until_s, last in timed_frames(source, packets):
        count = max(0, sum(time_s < until_s - _SLACK_S for time_s in times_s) - served)  # time stamps may fall back
        served += count
        yield last, count
        if served == len(times_s):
            return
    if is_short(times_s[0], until_s, reached_s):
        raise MediaError(f"{source.path}: video is damaged from {until_s:.2f} s on; restore the file or leave it out")
    if last is not None:
        yield last, len(times_s) - served


__all__ = ["decode_video", "frame_times", "read_pictures", "sample_times", "timed_frames"]

"""IEMOCAP's split-screen videos, cut into one small MP4 a turn that shows only the half with its speaker."""

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from epo.data.decoding.media_source import Source
from epo.data.decoding.picture import Canvas
from epo.data.decoding.video import timed_frames

_MAX_SIDE_PX = 4096
_TICK = Fraction(1, 90_000)
_SLACK_S = 5e-4

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Cut:
    """One turn: seconds into the video, the half to keep, and the file to write."""

    start_s: float
    end_s: float
    side: Side
    target: Path


def cut_halves(video: Path, cuts: list[Cut]) -> list[Cut]:
    """Decode a dialogue's video once and write each cut as H.264, without sound.

    Turns may overlap. The targets are written in place: the caller names partial files.

    Returns:
        The cuts that got at least one picture; a video may end before its last turn.

    Raises:
        MediaError: the video cannot be decoded.
    """
    with Source.opened(video, "video") as source, ExitStack() as stack:
        canvas = Canvas(source.stream, _MAX_SIDE_PX)
        writers = [stack.enter_context(_Writer(cut, source.stream)) for cut in cuts]
        last_s = max(cut.end_s for cut in cuts)
        for begin_s, until_s, frame in timed_frames(source, source.packets(min(cut.start_s for cut in cuts))):
            if begin_s >= last_s:
                break
            takers = [writer for writer in writers if writer.wants(begin_s, until_s)]
            if not takers:
                continue
            picture = canvas.draw(frame)
            for writer in takers:
                writer.write(begin_s, picture)
    return [writer.cut for writer in writers if writer.num_frames > 0]


class _Writer:
    """An MP4 that is opened at the first picture and closed after the last, so few are open at a time."""

    def __init__(self, cut: Cut, stream: Any) -> None:
        self.cut = cut
        self.num_frames = 0
        self._rate = Fraction(25) if stream.average_rate is None else Fraction(stream.average_rate)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wants(self, begin_s: float, until_s: float) -> bool:
        """Whether a picture that is on screen between two moments is seen in the cut; closes a cut that is past."""
        if begin_s >= self.cut.end_s - _SLACK_S:
            self._close()
            return False
        return until_s > self.cut.start_s + _SLACK_S

    def write(self, begin_s: float, picture: np.ndarray) -> None:
        """Append the speaker's half of a picture, uint8 (H, W, 3), which appears at `begin_s` of the video."""
        height, half = picture.shape[0] // 2 * 2, picture.shape[1] // 4 * 2  # H.264 wants even sides
        start = 0 if self.cut.side == "left" else picture.shape[1] - half
        if self._container is None:
            self._open(half, height)
        part = av.VideoFrame.from_ndarray(picture[:height, start : start + half].copy(), format="rgb24")
        part.pts, part.time_base = max(0, round((begin_s - self.cut.start_s) / _TICK)), _TICK
        self._container.mux(self._stream.encode(part))
        self.num_frames += 1

    def _open(self, width: int, height: int) -> None:
        self._container = av.open(self.cut.target, "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": "20", "preset": "veryfast"}
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = _TICK

    def _close(self) -> None:
        if self._container is not None and self._stream is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._stream = None


__all__ = ["Cut", "Side", "cut_halves"]

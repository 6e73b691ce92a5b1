"""IEMOCAP's split-screen videos, cut into one small MP4 a turn that shows only the half with its speaker."""

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av

from epo.data.media import MEDIA_FORMATS, MediaError

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
    options = {"format_whitelist": MEDIA_FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{video}", options=options) as source, ExitStack() as stack:
            stream = source.streams.best("video")
            if stream is None:
                raise MediaError(f"{video}: has no video stream; download the file again")
            writers = [stack.enter_context(_Writer(cut, stream)) for cut in cuts]
            last_s = max(cut.end_s for cut in cuts)
            frame: Any
            for frame in source.decode(stream):
                if frame.time > last_s:
                    break
                for writer in writers:
                    writer.offer(frame)
    except (av.FFmpegError, OSError, EOFError) as error:
        raise MediaError(f"{video}: cannot be cut ({error}); download the file again") from error
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

    def offer(self, frame: Any) -> None:
        """Take the picture if it falls into the cut."""
        if frame.time >= self.cut.end_s:
            self._close()
        elif frame.time >= self.cut.start_s:
            self._write(frame)

    def _write(self, frame: Any) -> None:
        picture = frame.to_ndarray(format="rgb24")  # uint8 (H, W, 3)
        height, half = picture.shape[0] // 2 * 2, picture.shape[1] // 4 * 2  # H.264 wants even sides
        start = 0 if self.cut.side == "left" else picture.shape[1] - half
        if self._container is None:
            self._open(half, height)
        part = av.VideoFrame.from_ndarray(picture[:height, start : start + half].copy(), format="rgb24")
        self._container.mux(self._stream.encode(part))
        self.num_frames += 1

    def _open(self, width: int, height: int) -> None:
        self._container = av.open(self.cut.target, "w", format="mp4")
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": "20", "preset": "veryfast"}
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.thread_count = 1

    def _close(self) -> None:
        if self._container is not None and self._stream is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._stream = None


__all__ = ["Cut", "Side", "cut_halves"]

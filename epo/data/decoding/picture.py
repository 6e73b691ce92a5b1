"""Turn a decoded frame into RGB as a viewer sees it: upright, unmirrored, square pixels, one field, over black."""

import math
import struct
from typing import Any

import av
import numpy as np

# Pixels further from square than this are a damaged header, no camera.
_MOST_STRETCHED = 8.0


class Canvas:
    """Draws all frames of a clip at one size, that of the first."""

    def __init__(self, stream: Any, max_side_px: int) -> None:
        """Take the shape of pixels from a stream; no side is drawn longer than `max_side_px`."""
        self._stream, self._max_side_px = stream, max_side_px
        self._size: tuple[int, int] | None = None

    def draw(self, frame: Any) -> np.ndarray:
        """Return uint8 (H, W, 3) RGB.

        A frame of other proportions than the first, as of a telephone that is turned, is fitted in with black beside.
        """
        is_mirrored, quarter_turns = _orientation(frame)
        width, height = self._square_size(frame)
        if quarter_turns % 2 == 1:
            width, height = height, width
        if self._size is None:
            self._size = (width, height)
        scale = min(self._size[0] / width, self._size[1] / height)
        fitted = [
            min(whole, max(1, round(side * scale))) for side, whole in zip((width, height), self._size, strict=True)
        ]
        picture = _to_rgb(frame, *(fitted if quarter_turns % 2 == 0 else fitted[::-1]))
        if is_mirrored:
            picture = picture[:, ::-1]
        return self._centred(np.rot90(picture, quarter_turns))

    def _square_size(self, frame: Any) -> tuple[int, int]:
        """Return width and height in square pixels, within the limit."""
        ratio = self._stream.sample_aspect_ratio
        stretch = float(ratio) if ratio else 1.0
        if not 1 / _MOST_STRETCHED <= stretch <= _MOST_STRETCHED:
            stretch = 1.0
        width, height = frame.width * max(1.0, stretch), frame.height * max(1.0, 1 / stretch)
        scale = min(1.0, self._max_side_px / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _centred(self, picture: np.ndarray) -> np.ndarray:
        assert self._size is not None
        width, height = self._size
        if picture.shape[:2] == (height, width):
            return np.ascontiguousarray(picture)
        whole = np.zeros((height, width, 3), np.uint8)
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return whole


def _orientation(frame: Any) -> tuple[bool, int]:
    """Return whether to mirror a frame left to right first, and how many quarter turns to make, counter-clockwise.

    Other angles are taken to the nearest quarter.
    """
    try:
        matrix = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        return False, 0
    except ValueError:  # other side data of a kind that PyAV does not know
        return False, round(frame.rotation / 90) % 4
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    is_mirrored = a * d - b * c < 0
    if is_mirrored:
        a, b = -a, -b
    return is_mirrored, round(-math.degrees(math.atan2(b, a)) / 90) % 4


def _to_rgb(frame: Any, width: int, height: int) -> np.ndarray:
    """Scale and convert, uint8 (height, width, 3); one field of interlaced frames, and transparent ones over black."""
    if frame.interlaced_frame and frame.height > 1:
        frame = _top_field(frame)
    has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    try:
        picture = frame.reformat(width, height, "rgba" if has_alpha else "rgb24", threads=1).to_ndarray()
    except av.FFmpegError as error:
        raise ValueError(f"{frame.format.name} of colour space {frame.colorspace} cannot be made RGB") from error
    if not has_alpha:
        return np.asarray(picture)
    opacity = picture[..., 3:].astype(np.uint16)
    blended: np.ndarray = ((picture[..., :3] * opacity + 127) // 255).astype(np.uint8)
    return blended


def _top_field(frame: Any) -> Any:
    """Take every other line: the two fields of a frame are of two moments, and together they show combs."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    field, sink = graph.add("field", "top"), graph.add("buffersink")
    source.link_to(field)
    field.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


__all__ = ["Canvas"]

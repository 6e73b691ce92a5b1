"""ClipView: what a page shows of a clip: something that plays, frames with their times, the waveform, or the fault."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from epo.data.dialogue import Clip
from epo.data.media import Media, MediaError, MediaLimits, decode_audio, decode_video
from epo.data.pages.preview import encode_preview
from epo.data.pages.waveform import WIDTH, Waveform, draw_waveform

# As training reads it, but with more and smaller pictures, at most as many as 30 s need.
LIMITS = MediaLimits(video_fps=12.0, max_frames=360, max_side_px=240)

PlaceMedia = Callable[[Clip, Callable[[], bytes]], str]
"""(clip, what makes a preview of it) -> the address that a page plays it from."""

PlaceFrame = Callable[[int, bytes], str]
"""(number of the frame, JPEG) -> the address that a page shows it from."""


@dataclass(frozen=True)
class Look:
    """How finely a page shows a clip.

    Attributes:
        num_frames: pictures, spread evenly over the span.
        side_px: longest side of one.
        columns: of the waveform, at most its width in pixels.
    """

    num_frames: int = 6
    side_px: int = LIMITS.max_side_px
    columns: int = WIDTH


@dataclass(frozen=True)
class Frame:
    """The address of a picture, and when it is shown, in seconds from the beginning of the file."""

    source: str
    time_s: float


@dataclass(frozen=True)
class ClipView:
    """What a page shows of a clip.

    Attributes:
        files: the names of its files.
        span: from when to when, in words.
        kind: of the player.
        source: address of what it plays; empty where nothing could be decoded.
        frames: spread evenly over the span.
        waveform: of its sound.
        faults: why a half cannot be used, or no player can be made.
    """

    files: tuple[str, ...]
    span: str
    kind: Literal["audio", "video"]
    source: str = ""
    frames: tuple[Frame, ...] = ()
    waveform: Waveform | None = None
    faults: tuple[str, ...] = ()


def embed_frame(number: int, picture: bytes) -> str:
    """Place a picture inside the page itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"


def view_clip(
    clip: Clip, place: PlaceMedia, place_frame: PlaceFrame = embed_frame, look: Look | None = None
) -> ClipView:
    """Decode a clip and make ready what a page shows; what is wrong with one half does not hide the other.

    Args:
        clip: any.
        place: where its sound and video are played from.
        place_frame: where its pictures are shown from; by default from inside the page.
        look: how finely; None for a page of its own.
    """
    look = Look() if look is None else look
    faults: list[str] = []
    sound = _attempt(decode_audio, clip.audio, clip, faults)
    pictures = _attempt(decode_video, clip.video, clip, faults)
    source = ""
    if sound is not None or pictures is not None:
        try:
            media = Media(sound, pictures)
            source = place(clip, lambda: encode_preview(media, LIMITS.sample_rate_hz, int(LIMITS.video_fps)))
        except MediaError as error:
            faults.append(str(error))
    return ClipView(
        files=tuple(dict.fromkeys(path.name for path in (clip.audio, clip.video) if path is not None)),
        span=format_span(clip),
        kind="audio" if pictures is None else "video",
        source=source,
        frames=() if pictures is None else _frames(pictures, clip.start_s, place_frame, look),
        waveform=None if sound is None else draw_waveform(sound, LIMITS.sample_rate_hz, clip.start_s, look.columns),
        faults=tuple(dict.fromkeys(faults)),
    )


def format_span(clip: Clip) -> str:
    """Return from when to when a clip goes, in words."""
    return f"from {clip.start_s:g} s to " + ("the end" if clip.end_s is None else f"{clip.end_s:g} s")


def embed(clip: Clip, make_preview: Callable[[], bytes]) -> str:
    """Place a preview inside the page itself."""
    kind = "audio" if clip.video is None else "video"
    return f"data:{kind}/mp4;base64,{base64.b64encode(make_preview()).decode('ascii')}"


def _attempt(
    decode: Callable[[Path, float, float | None, MediaLimits], np.ndarray],
    path: Path | None,
    clip: Clip,
    faults: list[str],
) -> np.ndarray | None:
    if path is None:
        return None
    try:
        return decode(path, clip.start_s, clip.end_s, LIMITS)
    except MediaError as error:
        faults.append(str(error))
        return None


def _frames(pictures: np.ndarray, start_s: float, place: PlaceFrame, look: Look) -> tuple[Frame, ...]:
    chosen = sorted({round(place) for place in np.linspace(0, len(pictures) - 1, look.num_frames)})
    return tuple(
        Frame(place(number, _as_jpeg(pictures[index], look.side_px)), start_s + index / LIMITS.video_fps)
        for number, index in enumerate(chosen)
    )


def _as_jpeg(picture: np.ndarray, side_px: int) -> bytes:
    buffer, image = io.BytesIO(), Image.fromarray(picture)
    image.thumbnail((side_px, side_px))
    image.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()


__all__ = ["ClipView", "Frame", "Look", "PlaceFrame", "PlaceMedia", "embed", "embed_frame", "format_span", "view_clip"]

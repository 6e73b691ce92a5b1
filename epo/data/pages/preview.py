"""Previews: a small MP4 that every browser plays, of just what training reads of a clip; and what needs none."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from epo.data.decoding.media_source import MediaError
from epo.data.media import MEDIA_FORMATS, Media

# What current Chrome, Firefox and Safari all play, by FFmpeg's name of the container: codecs (our reading of MDN's
# media container and codec guides). Matroska they take only as WebM, which FFmpeg does not tell apart.
_PLAYABLE = {
    "wav": {"pcm_s16le", "pcm_u8", "pcm_s24le", "pcm_f32le"},
    "mp3": {"mp3"},
    "flac": {"flac"},
    "ogg": {"vorbis", "opus", "flac"},
    "mov": {"h264", "aac", "mp3"},
    "matroska": {"vp8", "vp9", "vorbis", "opus"},
}
_BEYOND_8_BITS = ("10le", "12le", "422p", "444p")  # of H.264: browsers have no decoder for these pixels
_AUDIO_BIT_RATE = 48_000


def is_playable(path: Path) -> bool:
    """Tell by its header whether browsers play a media file as it is; False where it cannot be opened."""
    options = {"format_whitelist": MEDIA_FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path}", options=options) as container:
            codecs = _PLAYABLE.get(container.format.name.split(",")[0], set())
            if container.format.name.startswith("matroska") and path.suffix.lower() != ".webm":
                return False
            streams = [*container.streams.audio, *container.streams.video]
            return bool(streams) and all(_is_known(stream, codecs) for stream in streams)
    except (av.FFmpegError, OSError, EOFError, ValueError):
        return False


def encode_preview(media: Media, rate_hz: int, fps: int) -> bytes:
    """Encode decoded media as H.264 and AAC in MP4.

    Args:
        media: frames `fps` a second, sound at `rate_hz`; one of them may be absent.
        rate_hz: of the sound.
        fps: of the pictures.

    Returns:
        The file's bytes.

    Raises:
        MediaError: this build of FFmpeg cannot encode it.
    """
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            writers = []
            if media.frames is not None:
                writers.append(_video_writer(container, media.frames, fps))
            if media.waveform is not None:
                writers.append(_audio_writer(container, media.waveform, rate_hz))
            for stream, frames in writers:
                for frame in frames:
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"no preview: this FFmpeg cannot encode H.264 and AAC ({error})") from error
    return buffer.getvalue()


def _is_known(stream: Any, codecs: set[str]) -> bool:
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in codecs:
        return False
    return stream.type == "audio" or not str(context.pix_fmt).endswith(_BEYOND_8_BITS)


def _video_writer(container: Any, frames: np.ndarray, fps: int) -> tuple[Any, list[Any]]:
    height, width = (max(2, size - size % 2) for size in frames.shape[1:3])  # 4:2:0 wants even sides
    if min(frames.shape[1:3]) < 2:
        frames = frames.repeat(2, axis=1).repeat(2, axis=2)
    stream = container.add_stream("libx264", rate=Fraction(fps))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {"preset": "veryfast", "crf": "28"}
    stream.codec_context.thread_count = 1
    cut = np.ascontiguousarray(frames[:, :height, :width])
    return stream, [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in cut]


def _audio_writer(container: Any, waveform: np.ndarray, rate_hz: int) -> tuple[Any, list[Any]]:
    stream = container.add_stream("aac", rate=rate_hz, layout="mono")
    stream.bit_rate = _AUDIO_BIT_RATE
    frames = []
    for begin in range(0, len(waveform), 1024):
        frame = av.AudioFrame.from_ndarray(waveform[None, begin : begin + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, begin, Fraction(1, rate_hz)
        frames.append(frame)
    return stream, frames


__all__ = ["encode_preview", "is_playable"]

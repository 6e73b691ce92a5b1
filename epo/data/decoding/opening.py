"""Open a media file safely, as one of the containers taken, and tell its real streams and where they begin."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
from av.stream import Disposition

from epo.data.decoding.formats import MEDIA_FORMATS, refusal
from epo.data.dialogue import DataError

MAX_CODED_PIXELS = 2**26
"""Twice 8K; anything larger is refused before memory is taken."""
_RATES_HZ = (1000, 768_000)
_FIRST_PACKETS = 100
_PICTURES_BESIDE = int(Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image)

Kind = Literal["audio", "video"]


class MediaError(DataError):
    """A media file cannot be used; the message starts with its path."""


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a media file as one of the containers taken, and name the file in whatever goes wrong until it is closed.

    Raises:
        MediaError: the file is missing, empty, no media file, or of a kind that is not taken.
    """
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty; restore it or remove it from the clip")
        try:
            container = open_file(path)
        except (av.FFmpegError, EOFError) as error:
            raise MediaError(f"{path}: {refusal(path, error)}") from error
        with container:
            yield container
    except MediaError:
        raise
    except (av.FFmpegError, OSError, EOFError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None)  # FFmpeg's own words; the rest of its message is a number
        raise MediaError(
            f"{path}: cannot be decoded ({error if reason is None else reason}); convert or restore the file"
        ) from error


def open_file(path: Path) -> Any:
    """Open a container with PyAV; nothing but this very file is ever opened."""
    options = {
        "max_pixels": str(MAX_CODED_PIXELS),
        "format_whitelist": MEDIA_FORMATS,
        "protocol_whitelist": "file",
    }
    return av.open(f"file:{path}", options=options)


def usable_streams(container: Any, kind: Kind) -> list[Any]:
    """Return the streams of a kind, without cover art and thumbnails."""
    streams = container.streams.audio if kind == "audio" else container.streams.video
    return [stream for stream in streams if not int(stream.disposition) & _PICTURES_BESIDE]


def common_beginning(path: Path, container: Any) -> float:
    """Return the earliest time stamp of the sounds and pictures, in seconds; 0 where there is none."""
    streams = [*usable_streams(container, "audio"), *usable_streams(container, "video")]
    if container.format.name == "asf":
        return _first_packets_beginning(path, {stream.index for stream in streams})
    starts = [float(stream.start_time * stream.time_base) for stream in streams if stream.start_time is not None]
    return min(starts, default=0.0)


def _first_packets_beginning(path: Path, indices: set[int]) -> float:
    """Return the earliest time among the first packets: what FFmpeg says of a whole ASF is that of its last stream."""
    starts: dict[int, float] = {}
    with open_file(path) as container:
        for packet in islice(container.demux(), _FIRST_PACKETS):
            stamp = packet.pts if packet.dts is None else packet.dts
            if stamp is not None and packet.stream_index in indices:
                starts.setdefault(packet.stream_index, float(stamp * packet.time_base))
    return min(starts.values(), default=0.0)


def check_decodable(path: Path, kind: Kind, stream: Any) -> None:
    """Raise if no decoder knows a stream, or its header names frames or rates beyond all reason.

    Raises:
        MediaError: it does.
    """
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{path}: no decoder knows its {kind} stream; convert the file")
    if kind == "video" and stream.width * stream.height > MAX_CODED_PIXELS:
        raise MediaError(f"{path}: frames of {stream.width}x{stream.height} px; scale it down to 8K or less")
    if kind == "audio" and context.sample_rate and not _RATES_HZ[0] <= context.sample_rate <= _RATES_HZ[1]:
        raise MediaError(
            f"{path}: its header says {context.sample_rate} Hz, want {_RATES_HZ[0]} to {_RATES_HZ[1]}; convert the file"
        )


__all__ = [
    "MAX_CODED_PIXELS",
    "Kind",
    "MediaError",
    "check_decodable",
    "common_beginning",
    "open_container",
    "open_file",
    "usable_streams",
]

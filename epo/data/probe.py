"""Probe: which streams a media file has and how long it is, without decoding it."""

from dataclasses import dataclass
from pathlib import Path

import av

from epo.data.media import MEDIA_FORMATS, MediaError


@dataclass(frozen=True)
class Probe:
    """What the header of a file says; `seconds` is None where it says nothing."""

    has_audio: bool
    has_video: bool
    seconds: float | None


def probe_media(path: Path) -> Probe:
    """Read the header of a media file.

    Raises:
        MediaError: the file is empty, is no media file, or is cut off before its header ends.
    """
    options = {"format_whitelist": MEDIA_FORMATS, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path}", options=options) as container:
            seconds = None if container.duration is None else container.duration / av.time_base
            return Probe(len(container.streams.audio) > 0, len(container.streams.video) > 0, seconds)
    except (av.FFmpegError, OSError, EOFError, ValueError) as error:
        raise MediaError(f"{path}: cannot be opened ({error}); restore the file or remove it from the clip") from error


__all__ = ["Probe", "probe_media"]

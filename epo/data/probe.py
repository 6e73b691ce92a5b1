"""Probe: which streams a media file has and how long its header says it is, without decoding it."""

from dataclasses import dataclass
from pathlib import Path

import av

from epo.data.decoding.opening import MediaError, open_container, usable_streams
from epo.data.dialogue import Clip
from epo.data.examination import ClipReport


@dataclass(frozen=True)
class Probe:
    """What the header of a file says; `seconds` is None where it says nothing, and may be wrong where it does."""

    has_audio: bool
    has_video: bool
    seconds: float | None


def probe_media(path: Path) -> Probe:
    """Read the header of a media file; a cover picture is no video.

    Raises:
        MediaError: the file is empty, is no media file, is of a kind that is not taken, or is cut off before its
            header ends.
    """
    with open_container(path) as container:
        seconds = None if container.duration is None else container.duration / av.time_base
        has_audio, has_video = (bool(usable_streams(container, kind)) for kind in ("audio", "video"))
        return Probe(has_audio, has_video, seconds)


def probe_clip(clip: Clip) -> ClipReport:
    """Open a clip's files without decoding: whether each half has its stream, and how long its header says it is."""
    values: dict[str, object] = {}
    for kind, path in (("audio", clip.audio), ("video", clip.video)):
        if path is None:
            continue
        try:
            probe = probe_media(path)
        except MediaError as error:
            values[f"{kind}_fault"] = str(error)
            continue
        if not (probe.has_audio if kind == "audio" else probe.has_video):
            values[f"{kind}_fault"] = f"{path}: has no {kind} stream; remove it from the clip's {kind!r}"
        values[f"{kind}_file_seconds"] = probe.seconds
    return ClipReport(**values)  # type: ignore[arg-type]


__all__ = ["Probe", "probe_clip", "probe_media"]

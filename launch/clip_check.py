"""Reading clips before training starts: all ranks together find what cannot be read, and the cache is filled."""

from collections.abc import Iterable

from compressor.progress import show_progress
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError
from epo.data.probe import probe_media
from epo.model.family import ClipSource
from epo.ranks import gather_shares, share


def read_clips_first(clips: Iterable[Clip | None], reader: ClipSource, cache: ClipCache) -> None:
    """Read every clip there is once, each rank its share.

    With a cache the clips are decoded into it, which the first epoch would have to do anyway; without one only the
    files' headers are read.

    Raises:
        DataError: some clips cannot be read; raised on every rank, with the number of them and the first fault.
    """
    present = [clip for clip in clips if clip is not None]
    faults = []
    for clip in show_progress(share(present), "reading clips", "clips"):
        try:
            _read(clip, reader, cache)
        except DataError as error:
            faults.append(str(error))
    faults = sorted(gather_shares(faults))
    if faults:
        raise DataError(
            f"{len(faults)} clips cannot be read; the first: {faults[0]}. `python launch/data.py check` lists them all"
        )


def _read(clip: Clip, reader: ClipSource, cache: ClipCache) -> None:
    if cache.is_kept:
        reader.read(clip, cache)
        return
    for path in (clip.audio, clip.video):
        if path is not None:
            probe_media(path)

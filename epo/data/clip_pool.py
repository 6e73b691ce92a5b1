"""Examine many clips at once, in worker processes that a clip may kill: then that clip is at fault, the rest go on."""

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from epo.data.dialogue import Clip
from epo.data.examination import ClipReport, examine_clip
from epo.data.media import MediaLimits

_AHEAD = 32  # clips a worker that are handed out before their results are awaited: bounds memory

Key = TypeVar("Key")


def examine_clips(
    clips: Iterable[tuple[Key, Clip]], limits: MediaLimits, workers: int
) -> Iterator[tuple[Key, ClipReport]]:
    """Yield the report of each clip beside its key, in the order of the clips.

    Args:
        clips: any number, taken as they are needed.
        limits: of the stage that will read them.
        workers: processes; with one, decoding stays in this process, and a clip that kills it kills all.
    """
    if workers <= 1:
        for key, clip in clips:
            yield key, examine_clip(clip, limits)
        return
    remaining = iter(clips)
    pool = _new_pool(workers)
    try:
        while batch := list(itertools.islice(remaining, _AHEAD * workers)):
            try:
                reports = list(
                    pool.map(examine_clip, (clip for _, clip in batch), itertools.repeat(limits), chunksize=4)
                )
            except BrokenProcessPool:
                reports = [_examine_alone(clip, limits) for _, clip in batch]
                pool = _new_pool(workers)
            yield from ((key, report) for (key, _), report in zip(batch, reports, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _examine_alone(clip: Clip, limits: MediaLimits) -> ClipReport:
    """Examine a clip in a process of its own, to learn whether it is the one that kills."""
    with _new_pool(1) as pool:
        try:
            return pool.submit(examine_clip, clip, limits).result()
        except BrokenProcessPool:
            path = clip.audio if clip.video is None else clip.video
            fault = f"{path}: decoding it ends the process; convert the file or remove it from the clip"
            return ClipReport(audio_fault=fault if clip.video is None else None, video_fault=fault)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of whatever is loaded
    return ProcessPoolExecutor(workers, mp_context=spawn)


__all__ = ["examine_clips"]

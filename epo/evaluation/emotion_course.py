"""Emotion course: what an extractor makes of the beginning of a clip, longer and longer, up to the whole of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError
from epo.evaluation.recognition import emotion_shares
from epo.model.extractor import EmotionExtractor

_SHORTEST_S = 0.25
"""Between two points: one frame at four a second."""

Shares = Mapping[str, Sequence[float]]
"""Probabilities in the order of `EMOTIONS`, by head: `fused`, and `audio` and `video` where the clip has that half."""


@dataclass(frozen=True)
class Moment:
    """What is made of the first `seconds` of a clip."""

    seconds: float
    shares: Shares


def shares_of_clip(extractor: EmotionExtractor, clip: Clip, reader: Any, cache: ClipCache) -> Shares:
    """Return what an extractor makes of a clip, by head; a head whose half is missing has nothing to say.

    Raises:
        MediaError: the clip cannot be read.
    """
    shares = emotion_shares(extractor, [clip], reader, cache)
    halves = {"fused": True, "audio": clip.audio is not None, "video": clip.video is not None}
    return {head: shares[head][0].tolist() for head, is_there in halves.items() if is_there}


def emotion_course(
    extractor: EmotionExtractor, clip: Clip, reader: Any, cache: ClipCache, seconds: float, most: int = 8
) -> Iterator[Moment]:
    """Yield what an extractor makes of the first part of a clip, as if the recording had ended there (our choice).

    The extractor attends over a whole clip at once and has no state of a moment, so each point is read anew: decoded,
    normalised and sampled as a clip of that length. The last is the clip itself. A beginning too short to be read, such
    as before the first picture, is left out.

    Args:
        extractor: who listens.
        clip: to what.
        reader: of its clips.
        cache: of decoded clips.
        seconds: how much of it is read.
        most: points, fewer where they would lie closer than a quarter of a second.

    Raises:
        MediaError: the whole clip cannot be read.
    """
    count = max(1, min(most, int(seconds / _SHORTEST_S)))
    for number in range(1, count):
        end_s = seconds * number / count
        beginning = replace(clip, end_s=clip.start_s + end_s)
        try:
            yield Moment(end_s, shares_of_clip(extractor, beginning, reader, cache))
        except DataError:
            continue
    yield Moment(seconds, shares_of_clip(extractor, clip, reader, cache))


__all__ = ["Moment", "Shares", "emotion_course", "shares_of_clip"]

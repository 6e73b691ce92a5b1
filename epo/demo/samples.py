"""Samples: a few clips of a corpus, for somebody without a camera."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from epo.data.dialogue import Dialogue, Turn
from epo.data.media import MediaLimits, decode_clip
from epo.data.pages.preview import encode_preview
from epo.emotions import EMOTIONS

# As pages about corpora show clips.
_LIMITS = MediaLimits(video_fps=12.0, max_frames=360, max_side_px=240)


def choose_samples(dialogues: Iterable[Dialogue], each: int = 2) -> list[Turn]:
    """Return the first user turns with a clip of each emotion, of the test split where there are enough.

    Args:
        dialogues: in the order of their file; read on only while some emotion lacks turns of the test split.
        each: turns of an emotion.
    """
    tested: dict[str, list[Turn]] = defaultdict(list)
    other: dict[str, list[Turn]] = defaultdict(list)
    for dialogue in dialogues:
        found = tested if dialogue.split == "test" else other
        for turn in dialogue.turns:
            if turn.speaker == "user" and turn.clip is not None and turn.emotion is not None:
                if len(found[turn.emotion]) < each:
                    found[turn.emotion].append(turn)
        if all(len(tested[emotion]) == each for emotion in EMOTIONS):
            break
    return [turn for emotion in EMOTIONS for turn in [*tested[emotion], *other[emotion]][:each]]


class Previews:
    """What a browser plays of samples, made when it is asked for."""

    def __init__(self, samples: Sequence[Turn]) -> None:
        """Stand ready for `samples`."""
        self._samples = samples
        self.make = lru_cache(maxsize=32)(self._make)

    def _make(self, number: int) -> bytes:
        """Return a small MP4.

        Raises:
            MediaError: the clip cannot be read, or this FFmpeg cannot write it.
        """
        clip = self._samples[number].clip
        assert clip is not None
        return encode_preview(decode_clip(clip, _LIMITS), _LIMITS.sample_rate_hz, int(_LIMITS.video_fps))


__all__ = ["Previews", "choose_samples"]

"""Valence, arousal and dominance as an extractor measures them: of clips, of speech by seconds, and how rightly."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Dialogue
from epo.data.probe import probe_clip
from epo.data.replies import Reply
from epo.data.selection import TaughtClip
from epo.emotions import VAD_NAMES
from epo.evaluation.trajectories import concordance
from epo.evaluation.vad_file import VadCourse
from epo.model.extractor import EmotionExtractor
from epo.model.family import ClipSource

WINDOW_S = 2.0
"""What is heard and seen for one point of a course, around the second that it stands for (our choice)."""


@torch.no_grad()
def predict_vad(
    extractor: EmotionExtractor, clips: Sequence[Clip], reader: ClipSource, cache: ClipCache, batch_size: int = 50
) -> Any:
    """Return valence, arousal and dominance of each clip, float64 (N, 3), each in [-1, 1].

    Raises:
        ValueError: the extractor has no head for them.
    """
    if extractor.vad_head is None:
        raise ValueError("the extractor has no head for valence, arousal and dominance; train one with vad_weight")
    extractor.eval()
    parts = [np.zeros((0, len(VAD_NAMES)))]
    for start in range(0, len(clips), batch_size):
        features = [reader.read(clip, cache) for clip in clips[start : start + batch_size]]
        batch = {name: tensor.to(extractor.device) for name, tensor in reader.batch(features).items()}
        parts.append(extractor(**batch).vad.double().cpu().numpy())
    return np.concatenate(parts)


def vad_concordance(
    extractor: EmotionExtractor, clips: Sequence[TaughtClip], reader: ClipSource, cache: ClipCache
) -> dict[str, float | None]:
    """Return how an extractor agrees with people on the clips that they rated.

    Returns:
        `valence_ccc`, `arousal_ccc` and `dominance_ccc` (Lin 1989), None for fewer than two clips; `num_rated`.
    """
    rated = [one for one in clips if one.vad is not None]
    said_ND = predict_vad(extractor, [one.clip for one in rated], reader, cache)
    wanted_ND = np.array([one.vad for one in rated], dtype=np.float64).reshape(-1, len(VAD_NAMES))
    found = {
        f"{name}_ccc": concordance(said_ND[:, dim].tolist(), wanted_ND[:, dim].tolist())
        for dim, name in enumerate(VAD_NAMES)
    }
    return found | {"num_rated": len(rated)}


@dataclass(frozen=True)
class VadMeter:
    """An extractor that measures, under the name that its courses carry as their source."""

    extractor: EmotionExtractor
    reader: ClipSource
    source: str
    cache: ClipCache = field(default_factory=lambda: ClipCache(None))

    def courses(
        self, gold: Iterable[Reply], dialogues: Mapping[str, Dialogue], known: Collection[tuple[str, int]] = ()
    ) -> list[VadCourse]:
        """Return the courses of what was really said: of the turns that are answered and of the gold replies.

        A turn without a clip has none. A course is a point a second, each of the `WINDOW_S` around it.

        Args:
            gold: the replies.
            dialogues: that hold them, by id.
            known: dialogue and turn of what is measured already.
        """
        places = {
            (reply.dialogue_id, place): (turn.speaker, turn.clip)
            for reply in gold
            for place in (reply.turn - 1, reply.turn)
            if (turn := dialogues[reply.dialogue_id].turns[place]).clip is not None
            and (reply.dialogue_id, place) not in known
        }
        windows = [windows_of(clip) for _, clip in places.values() if clip is not None]
        flat = [window for of_clip in windows for window in of_clip]
        points_ND = predict_vad(self.extractor, flat, self.reader, self.cache)
        ends = np.cumsum([len(of_clip) for of_clip in windows])
        return [
            VadCourse(dialogue_id, turn, speaker, points_ND[end - len(of_clip) : end], self.source)
            for ((dialogue_id, turn), (speaker, _)), of_clip, end in zip(places.items(), windows, ends, strict=True)
        ]

    def concordance(self, clips: Sequence[TaughtClip]) -> dict[str, float | None]:
        """Return how it agrees with people on rated clips, as `vad_concordance` does."""
        return vad_concordance(self.extractor, clips, self.reader, self.cache)


def windows_of(clip: Clip) -> list[Clip]:
    """Return what is heard and seen for each second of a clip; the whole where its length is not known.

    A clip of n whole seconds has n windows, one shorter than a second has one. The window of second t is from t - 0.5
    to t + 1.5, within the clip.
    """
    end_s = clip.end_s
    if end_s is None:
        probed = probe_clip(clip)
        known = [s for s in (probed.audio_file_seconds, probed.video_file_seconds) if s is not None]
        end_s = min(known) if known else None
    if end_s is None or end_s - clip.start_s < 2:
        return [clip]
    margin_s = (WINDOW_S - 1) / 2
    return [
        replace(
            clip,
            start_s=max(clip.start_s, clip.start_s + second - margin_s),
            end_s=min(end_s, clip.start_s + second + 1 + margin_s),
        )
        for second in range(math.floor(end_s - clip.start_s))
    ]


__all__ = ["WINDOW_S", "VadMeter", "predict_vad", "vad_concordance", "windows_of"]

"""Heard emotions: the extractor's reading of past user turns, for a history that tells emotions nobody labelled."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Turn
from epo.emotions import EMOTIONS, Emotion
from epo.model.family import bare


class HeardEmotions:
    """Says what each turn of a history was felt to be, as a model knows it at inference.

    A user turn with a clip has the emotion that the extractor hears and sees in it (its fused head's likeliest), one
    without a clip has none, and an assistant turn keeps its own: the gold label of a gold turn, or the label that the
    model wrote. Each clip is read once.
    """

    def __init__(self, model: Any, processor: Any, cache: ClipCache) -> None:
        self._extractor, self._reader, self._cache = bare(model).extractor, processor.clips, cache
        self._known: dict[Clip, Emotion] = {}

    def __call__(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """Return the turns with the emotions that are told of them.

        Raises:
            MediaError: a clip cannot be read.
        """
        clips = dict.fromkeys(turn.clip for turn in turns if turn.speaker == "user" and turn.clip is not None)
        self._hear([clip for clip in clips if clip not in self._known])
        return tuple(
            turn
            if turn.speaker == "assistant"
            else replace(turn, emotion=None if turn.clip is None else self._known[turn.clip], labelled_by=None)
            for turn in turns
        )

    @torch.no_grad()
    def _hear(self, clips: Sequence[Clip]) -> None:
        if not clips:
            return
        batch = self._reader.batch([self._reader.read(clip, self._cache) for clip in clips])
        extractor = self._extractor
        was_training = extractor.training
        extractor.eval()
        logits = extractor(**{name: tensor.to(extractor.device) for name, tensor in batch.items()}).fused_logits
        extractor.train(was_training)
        self._known |= {clip: EMOTIONS[i] for clip, i in zip(clips, logits.argmax(dim=-1).tolist(), strict=True)}


def heard_emotions_of(model: Any, processor: Any, cache: ClipCache) -> HeardEmotions | None:
    """Return what hears for a model whose memories carry emotions; None for any other."""
    return HeardEmotions(model, processor, cache) if getattr(processor, "history_emotions", False) else None


__all__ = ["HeardEmotions", "heard_emotions_of"]

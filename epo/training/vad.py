"""Valence, arousal and dominance of a clip, learnt by concordance beside its emotion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from epo.data.cache import ClipCache
from epo.data.selection import TaughtClip
from epo.model.clip_reader import ClipReader
from epo.model.extractor import emotion_loss
from epo.training.collate import drop_modality, emotion_labels
from epo.training.sft import ExtractorTrainer


def concordance_loss(vad_BD: Tensor, wanted_BD: Tensor, is_rated_B: Tensor) -> Tensor:
    """Return 1 less the concordance of what was said with what was wanted, a mean over the dimensions.

    Of n rated rows with means m and population variances v, CCC = 2 cov(x, y) / (v_x + v_y + (m_x - m_y)^2). It is of
    a batch and not of a clip: the loss is over the rows that one micro-batch of one rank holds, and micro-batches and
    ranks are averaged, so another spread of the same global batch is another loss. Take per_device_train_batch_size
    as large as there is room for.

    What is not to be had is defined, and never NaN: fewer than two rated rows cost 0 and move nothing; a dimension
    whose wanted values are all the same costs 1 and moves nothing, for nothing correlates with a constant.

    Args:
        vad_BD: float (B, 3), what was said; computed in float32, or float64 where it is that.
        wanted_BD: float (B, 3); of rows that are not rated any finite value.
        is_rated_B: bool (B,).

    Returns:
        float32 (float64) scalar in [0, 2].

    Source: Lin 1989, doi 10.2307/2532051; as a loss our choice of weights: every dimension alike.
    """
    said_BD = vad_BD.to(torch.promote_types(vad_BD.dtype, torch.float32))
    if int(is_rated_B.sum()) < 2:
        return said_BD.sum() * 0.0  # of the graph, so that every rank has a gradient of every parameter
    x_ND, y_ND = said_BD[is_rated_B], wanted_BD[is_rated_B].to(said_BD.dtype)
    x_mean_D, y_mean_D = x_ND.mean(dim=0), y_ND.mean(dim=0)
    x_ND, y_ND = x_ND - x_mean_D, y_ND - y_mean_D
    spread_D = x_ND.square().mean(dim=0) + y_ND.square().mean(dim=0) + (x_mean_D - y_mean_D).square()
    ccc_D = 2 * (x_ND * y_ND).mean(dim=0) / spread_D.clamp(min=1e-8)
    return (1 - ccc_D).mean()


class VadCollator:
    """Batches of clips whose emotion, or whose valence, arousal and dominance, are known."""

    def __init__(
        self, clips: Sequence[TaughtClip], reader: ClipReader, cache: ClipCache, modality_dropout: float = 0.0
    ) -> None:
        self._clips, self._reader, self._cache = clips, reader, cache
        self._modality_dropout = modality_dropout

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build the inputs of `EmotionExtractor.forward`, `emotions` (B,), `vad` (B, 3) and bool `is_rated` (B,)."""
        clips = [self._clips[row["index"]] for row in rows]
        features = [
            drop_modality(
                self._reader.read(one.clip, self._cache), np.random.default_rng(row["seed"]), self._modality_dropout
            )
            for one, row in zip(clips, rows, strict=True)
        ]
        return self._reader.batch(features) | {
            "emotions": emotion_labels([one.emotion for one in clips]),
            "vad": torch.tensor([(0.0, 0.0, 0.0) if one.vad is None else one.vad for one in clips]),
            "is_rated": torch.tensor([one.vad is not None for one in clips]),
        }


class VadTrainer(ExtractorTrainer):
    """Emotion recognition on labelled clips, and valence, arousal and dominance of rated ones as a second loss."""

    def __init__(self, *args: Any, vad_weight: float, **kwargs: Any) -> None:
        """Make a trainer.

        Args:
            args: of transformers' `Trainer`.
            vad_weight: of `concordance_loss`.
            kwargs: of transformers' `Trainer`.
        """
        super().__init__(*args, **kwargs)
        self._vad_weight = vad_weight

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, `emotion_loss` in nats, and `vad_loss`, of this micro-batch alone."""
        emotions, vad, is_rated = (inputs.pop(name) for name in ("emotions", "vad", "is_rated"))
        output = model(**inputs)
        emotion, concordance = emotion_loss(output, emotions), concordance_loss(output.vad, vad, is_rated)
        return {"loss": emotion + self._vad_weight * concordance, "emotion_loss": emotion, "vad_loss": concordance}


__all__ = ["VadCollator", "VadTrainer", "concordance_loss"]

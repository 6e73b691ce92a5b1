"""How well the extractor recognises the user's emotion: fused, audio alone, video alone, and with the wrong clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from epo.data.cache import ClipCache
from epo.data.chance import chance_levels
from epo.data.dialogue import Clip
from epo.emotions import EMOTIONS, Emotion
from epo.evaluation.metrics import accuracy, calibration, exchanged_accuracy, macro_f1, weighted_f1
from epo.model.extractor import EmotionExtractor
from epo.model.family import ClipSource


@torch.no_grad()
def predict_emotions(
    extractor: EmotionExtractor, clips: Sequence[Clip], reader: ClipSource, cache: ClipCache, batch_size: int = 50
) -> dict[str, list[Emotion]]:
    """Return the most likely emotion of each clip, by head: `fused`, `audio`, `video`."""
    return {
        head: [EMOTIONS[place] for place in shares_NE.argmax(axis=1)]
        for head, shares_NE in emotion_shares(extractor, clips, reader, cache, batch_size).items()
    }


@torch.no_grad()
def emotion_shares(
    extractor: EmotionExtractor, clips: Sequence[Clip], reader: ClipSource, cache: ClipCache, batch_size: int = 50
) -> dict[str, Any]:
    """Return the probabilities of each clip's emotions, float32 (N, E), by head: `fused`, `audio`, `video`."""
    extractor.eval()
    found: dict[str, list[Any]] = {"fused": [], "audio": [], "video": []}
    for start in range(0, len(clips), batch_size):
        features = [reader.read(clip, cache) for clip in clips[start : start + batch_size]]
        batch = {name: tensor.to(extractor.device) for name, tensor in reader.batch(features).items()}
        output = extractor(**batch)
        for head, parts in found.items():
            parts.append(output[f"{head}_logits"].float().softmax(dim=-1).cpu().numpy())
    return {head: np.concatenate(parts) if parts else np.zeros((0, len(EMOTIONS))) for head, parts in found.items()}


def recognise(
    extractor: EmotionExtractor,
    clips: Sequence[Clip],
    emotions: Sequence[Emotion],
    reader: ClipSource,
    cache: ClipCache,
) -> dict[str, Any]:
    """Score emotion recognition.

    Returns:
        `accuracy`, `macro_f1`, `weighted_f1` and `calibration` of the fused head, `audio_only` and `video_only`
        accuracy of the single-modality heads, `confusion`, `counts[true][predicted]` in the order of `EMOTIONS`, and
        three levels of chance on the very same labels: `majority`, always the commonest; `sum_p2`, labels drawn from
        their distribution; and `shuffled`, what the fused head scores where each clip is judged by another clip's
        label: the mean over all ways to exchange labels that leave no clip its own, None for a single clip.
    """
    if not clips:
        return {}
    shares = emotion_shares(extractor, clips, reader, cache)
    found = {head: [EMOTIONS[place] for place in shares_NE.argmax(axis=1)] for head, shares_NE in shares.items()}
    wanted = list(emotions)
    majority, sum_p2 = chance_levels(wanted)
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), dtype=int)
    for true, predicted in zip(wanted, found["fused"], strict=True):
        confusion[EMOTIONS.index(true), EMOTIONS.index(predicted)] += 1
    return {
        "accuracy": accuracy(found["fused"], wanted),
        "macro_f1": macro_f1(found["fused"], wanted),
        "weighted_f1": weighted_f1(found["fused"], wanted),
        "calibration": calibration(shares["fused"], wanted),
        "audio_only": accuracy(found["audio"], wanted),
        "video_only": accuracy(found["video"], wanted),
        "majority": majority,
        "sum_p2": sum_p2,
        "shuffled": exchanged_accuracy(found["fused"], wanted),
        "num_clips": len(clips),
        "confusion": confusion.tolist(),
    }

"""A face encoder taught by descriptions: a frozen language model reads its video tokens and must say what they show.

Source: arXiv 2412.17292 teaches its face encoder by descriptions; how is not said there. Captioning through the frozen
language model, the question, and that the sound is hidden from these tokens, are our choice.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compressor.chat import chat_format
from compressor.fitting import FixedParts, text_prompt
from compressor.language_model import embedding_std
from compressor.objectives import labelled_span, memory_logits, reply_nll
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.text import IGNORE, pad_right
from epo.data.cache import ClipCache
from epo.data.selection import TaughtClip
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.extractor import EmotionExtractor, ExtractorOutput, emotion_loss
from epo.model.modes import rest_frozen
from epo.prompts.marks import PLACEHOLDERS, VIDEO_TOKEN
from epo.training.collate import emotion_labels

QUESTION = "What does the face do?"


class CaptionCollator:
    """Batches of clips with the emotions and descriptions that are known of them; the sound is left out."""

    def __init__(
        self, clips: Sequence[TaughtClip], reader: ClipReader, cache: ClipCache, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Collate clips.

        Args:
            clips: all of them; rows name them by index.
            reader: decodes them.
            cache: of decoded clips.
            tokenizer: the language model's, knowing the placeholders.
        """
        self._clips, self._reader, self._cache = clips, reader, cache
        self._chat = chat_format(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build the inputs of `FaceCaptioner.forward`, `emotions` (B,), and `input_ids` and `labels`, int64 (B, T)."""
        clips = [self._clips[row["index"]] for row in rows]
        features = [ClipFeatures(None, self._reader.read(clip.clip, self._cache).video) for clip in clips]
        said = [self._encode(c.description, f.video) for c, f in zip(clips, features, strict=True)]
        return self._reader.batch(features) | {
            "emotions": emotion_labels([clip.emotion for clip in clips]),
            "input_ids": pad_right([prompt + words for prompt, words in said], 0),
            "labels": pad_right([[IGNORE] * len(prompt) + words for prompt, words in said], IGNORE),
        }

    def _encode(self, description: str | None, video: np.ndarray | None) -> tuple[list[int], list[int]]:
        """Return the ids of the question about a clip, and of the answer, none where the clip is not described."""
        asked = VIDEO_TOKEN * (0 if video is None else len(video)) + QUESTION
        prompt = text_prompt(self._chat, FixedParts(after=asked), [], None, PLACEHOLDERS)[1]
        return prompt, [] if description is None else self._chat.encode_reply(description)


class FaceCaptioner(nn.Module):
    """An extractor whose video tokens are projected into the space of a language model's embeddings.

    The projection is as `EpoForConditionalGeneration` has one (`clip_norm`, `clip_head`), and starts as that does.
    """

    is_gradient_checkpointing = False  # asked by TRL of whatever it unwraps

    def __init__(self, extractor: EmotionExtractor, llm: PreTrainedModel) -> None:
        super().__init__()
        width: int = llm.get_input_embeddings().embedding_dim
        self.extractor = extractor
        self.clip_norm = nn.LayerNorm(extractor.config.hidden_size)
        self.clip_head = nn.Linear(extractor.config.hidden_size, width)
        nn.init.normal_(self.clip_head.weight, std=embedding_std(llm) / math.sqrt(extractor.config.hidden_size))
        nn.init.zeros_(self.clip_head.bias)

    def train(self, mode: bool = True) -> "FaceCaptioner":
        """Enter or leave training mode; what is frozen in the extractor stays out."""
        super().train(mode)
        if mode:
            rest_frozen(self.extractor)
        return self

    def forward(self, **clips: Tensor) -> tuple[ExtractorOutput, Tensor]:
        """Return what the extractor finds, and its video tokens for the language model, (B, F, D).

        Args:
            clips: of `EmotionExtractor.forward`.
        """
        output: ExtractorOutput = self.extractor(**clips)
        tokens = self.extractor.fuse_video(output.video_states, output.video_mask)
        return output, self.clip_head(self.clip_norm(tokens))


class FaceTrainer(ScheduledTrainer):
    """Minimises the descriptions' negative log-likelihood, and recognition's loss where labels teach too.

    The frozen language model is kept beside the trained module, as in `compressor.trainer`; gradients pass through it.
    """

    def __init__(
        self,
        *args: Any,
        llm: PreTrainedModel,
        video_token_id: int,
        description_weight: float,
        label_weight: float,
        **kwargs: Any,
    ) -> None:
        """Make a trainer.

        Args:
            args: of transformers' `Trainer`; its model is a `FaceCaptioner`.
            llm: the language model, which stays as it is.
            video_token_id: of the placeholder.
            description_weight: of the descriptions' loss.
            label_weight: of `emotion_loss`.
            kwargs: of transformers' `Trainer`.
        """
        super().__init__(*args, **kwargs)
        self._llm = llm.requires_grad_(False).eval().to(self.args.device)
        self._video_id, self._weights = video_token_id, (description_weight, label_weight)

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, `description_nll` in nats a token, and `emotion_loss`, 0 without labels."""
        clips = dict(inputs)
        emotions, ids, labels = clips.pop("emotions"), clips.pop("input_ids"), clips.pop("labels")
        output, tokens = model(**clips)
        nll = description_nll(self._llm, self._video_id, ids, labels, tokens, output.video_mask)
        emotion = emotion_loss(output, emotions)
        described, labelled = self._weights
        return {"loss": described * nll + labelled * emotion, "description_nll": nll.detach(), "emotion_loss": emotion}


def description_nll(
    llm: PreTrainedModel, video_token_id: int, input_ids: Tensor, labels: Tensor, tokens: Tensor, mask: Tensor
) -> Tensor:
    """Mean over clips of the mean negative log-likelihood of a description's tokens, in nats; 0 without one.

    Args:
        llm: the frozen language model.
        video_token_id: of the placeholder.
        input_ids: int64 (B, T), right-padded.
        labels: int64 (B, T), `IGNORE` but for the description.
        tokens: (B, F, D), what stands at the placeholders.
        mask: bool (B, F), which of them are real.
    """
    span = labelled_span(labels)
    return reply_nll(memory_logits(llm, input_ids, video_token_id, tokens, mask, span), labels[:, span])


@torch.no_grad()
def mean_description_nll(
    captioner: FaceCaptioner,
    llm: PreTrainedModel,
    video_token_id: int,
    collate: CaptionCollator,
    num_clips: int,
    batch_size: int = 32,
) -> float | None:
    """Return the mean of `description_nll` over the first clips of a collator, None without any."""
    captioner.eval()
    device, total = captioner.clip_head.weight.device, 0.0
    for start in range(0, num_clips, batch_size):
        rows = [{"index": index} for index in range(start, min(start + batch_size, num_clips))]
        batch = {name: tensor.to(device) for name, tensor in collate(rows).items()}
        batch.pop("emotions")
        ids, labels = batch.pop("input_ids"), batch.pop("labels")
        output, tokens = captioner(**batch)
        nll = description_nll(llm.to(device), video_token_id, ids, labels, tokens, output.video_mask)
        total += nll.item() * len(rows)
    return total / num_clips if num_clips else None


__all__ = ["QUESTION", "CaptionCollator", "FaceCaptioner", "FaceTrainer", "description_nll", "mean_description_nll"]

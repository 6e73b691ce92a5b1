"""Audio-Visual Emotion Extractor: hears and sees one turn, gives tokens and a distribution over emotions."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from epo.emotions import EMOTIONS, VAD_NAMES
from epo.model.augmentation import augment_video
from epo.model.configuration import ExtractorConfig
from epo.model.hearing import hearing_of
from epo.model.masks import at_least_one, length_mask
from epo.model.seeing import seeing_of


@dataclass
class ExtractorOutput(ModelOutput):
    """What the extractor finds in a batch of clips.

    Attributes:
        audio_tokens: (B, Ta, H) fused tokens of the audio; `audio_mask` bool (B, Ta) marks the real ones.
        video_tokens: (B, F, H) fused tokens of the video, one a frame; `video_mask` bool (B, F).
        fused_logits: (B, 7) emotion scores from both modalities, in the order of `EMOTIONS`.
        audio_logits: (B, 7) from the audio alone.
        video_logits: (B, 7) from the video alone.
        video_states: (B, F, H) states of the frames after the temporal transformer, before the fusion.
        vad: (B, 3) valence, arousal and dominance from both modalities, each in [-1, 1]; None of an extractor without
            that head.
        audio_states: (B, S, D) states of the audio encoder, 50 a second; `audio_state_mask` bool (B, S).
    """

    audio_tokens: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    audio_mask: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    video_tokens: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    video_mask: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    fused_logits: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    audio_logits: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    video_logits: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    vad: Tensor | None = None
    video_states: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    audio_states: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    audio_state_mask: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults


class EmotionExtractor(PreTrainedModel):
    """Audio encoder, vision tower with a temporal transformer, and a fusion transformer over both.

    Source: arXiv 2412.17572 names the part; encoders after arXiv 2412.17292; the fusion is our choice.
    """

    config_class = ExtractorConfig
    main_input_name = "input_features"

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self._hearing, self._seeing = hearing_of(config.audio_config), seeing_of(config.vision_config)
        self.audio_encoder = self._hearing.build(config.audio_config)
        self.vision_tower = self._seeing.build(config.vision_config)
        self.audio_input = nn.Linear(self._hearing.width(config.audio_config) * config.audio_stack, width)
        self.video_input = nn.Linear(config.vision_config.hidden_size * config.patch_grid**2, width)
        self.frame_positions = nn.Embedding(config.max_frames, width)
        self.modality = nn.Embedding(2, width)
        self.summary = nn.Embedding(1, width)
        self.temporal = _transformer(config, config.num_temporal_layers)
        self.fusion = _transformer(config, config.num_fusion_layers)
        self.fused_head = nn.Linear(width, len(EMOTIONS))
        self.audio_head = nn.Linear(width, len(EMOTIONS))
        self.video_head = nn.Linear(width, len(EMOTIONS))
        self.vad_head = nn.Linear(width, len(VAD_NAMES)) if config.has_vad else None
        self.post_init()
        self.hold_still()

    def hold_still(self) -> None:
        """Let nothing train that the encoders fix."""
        self._hearing.hold_still(self.audio_encoder)
        self._seeing.hold_still(self.vision_tower)

    def _init_weights(self, module: nn.Module) -> None:
        """Leave transformer layers and encoders to their own rules; start embeddings and heads small."""
        if module in (self.frame_positions, self.modality, self.summary):
            nn.init.normal_(module.weight, std=0.02)
        elif module in (self.fused_head, self.audio_head, self.video_head, self.vad_head):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_features: Tensor,
        num_mel_frames: Tensor,
        pixel_values: Tensor,
        num_video_frames: Tensor,
        **kwargs: Any,
    ) -> ExtractorOutput:
        """Read a batch of clips; a missing modality has length 0 and goes through the same graph, masked.

        Args:
            input_features: float (B, channels, T), what the audio encoder reads (`epo.model.hearing`): log-mel, or
                the waveform itself.
            num_mel_frames: int64 (B,), real steps of the T: mel frames, or samples.
            pixel_values: float (B, F, 3, H, W), normalised.
            num_video_frames: int64 (B,), real frames.
            kwargs: ignored, so that a trainer may pass a whole batch.
        """
        if self.training and self.config.augmentation > 0:
            input_features = self._hearing.augment(input_features, self.config.augmentation)
            pixel_values = augment_video(pixel_values, self.config.augmentation)
        # Collators and augmentation make float32; the encoders may hold bfloat16.
        input_features, pixel_values = input_features.to(self.dtype), pixel_values.to(self.dtype)
        heard, heard_mask = self._hearing.encode(self.audio_encoder, input_features, num_mel_frames)
        audio, audio_mask = self._audio_tokens(heard, heard_mask)
        video, video_mask = self._video_tokens(pixel_values, num_video_frames)
        fused = self._fuse(audio, audio_mask, video, video_mask)
        return ExtractorOutput(
            audio_tokens=fused[:, 1 : 1 + audio.size(1)],
            audio_mask=audio_mask,
            video_tokens=fused[:, 1 + audio.size(1) :],
            video_mask=video_mask,
            fused_logits=self.fused_head(fused[:, 0]),
            audio_logits=self.audio_head(_masked_mean(audio, audio_mask)),
            video_logits=self.video_head(_masked_mean(video, video_mask)),
            vad=None if self.vad_head is None else self.vad_head(fused[:, 0]).tanh(),
            video_states=video,
            audio_states=heard,
            audio_state_mask=heard_mask,
        )

    def fuse_video(self, video_states: Tensor, video_mask: Tensor) -> Tensor:
        """Return the video tokens (B, F, H) of clips as if they had no sound.

        Args:
            video_states: of an `ExtractorOutput`.
            video_mask: bool (B, F), of the same.
        """
        return self._fuse(video_states[:, :0], video_mask[:, :0], video_states, video_mask)[:, 1:]

    def drop_vad_head(self) -> None:
        """Take the head for valence, arousal and dominance away, where there is one."""
        self.vad_head, self.config.has_vad = None, False

    def _audio_tokens(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stack `audio_stack` encoder states into one token: (B, Ta, H) and its mask."""
        stack = self.config.audio_stack
        extra = -hidden.size(1) % stack
        hidden, mask = functional.pad(hidden, (0, 0, 0, extra)), functional.pad(mask, (0, extra))
        tokens = self.audio_input(hidden.reshape(hidden.size(0), -1, hidden.size(2) * stack))
        return tokens, mask.view(mask.size(0), -1, stack).any(dim=-1)

    def _video_tokens(self, frames: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Join a frame's patch states, averaged over a grid, into one token; then attend over time: (B, F, H).

        The grid keeps where in the face something is, which the mean of all patches would lose (our choice).
        """
        batch, length = frames.shape[:2]
        patches = self._seeing.patches(self.vision_tower, frames.flatten(0, 1))
        cells = functional.adaptive_avg_pool2d(patches, self.config.patch_grid).flatten(1)
        mask = length_mask(num_frames, length)
        positions = self.frame_positions(torch.arange(length, device=frames.device))
        tokens = self.video_input(cells).view(batch, length, -1) + positions
        return self.temporal(tokens, src_key_padding_mask=~at_least_one(mask)), mask

    def _fuse(self, audio: Tensor, audio_mask: Tensor, video: Tensor, video_mask: Tensor) -> Tensor:
        """Attend over summary, audio and video: (B, 1 + Ta + F, H)."""
        # Embeddings are called and not read as `.weight`, here and above, so that ZeRO-3 gathers and trains them.
        index = torch.arange(2, device=audio.device)
        summary, (heard, seen) = self.summary(index[:1]).expand(audio.size(0), 1, -1), self.modality(index)
        tokens = torch.cat([summary, audio + heard, video + seen], dim=1)
        mask = torch.cat([audio_mask.new_ones(len(audio_mask), 1), audio_mask, video_mask], dim=1)
        fused: Tensor = self.fusion(tokens, src_key_padding_mask=~mask)
        return fused


def emotion_loss(output: ExtractorOutput, emotions: Tensor) -> Tensor:
    """Mean over examples of each one's cross-entropy: the fused head's plus half of each single-modality head's.

    A head has nothing to say of an example without its modality or without a label, and adds 0 for it; the mean is over
    all examples, so that the loss of a batch is the mean of its examples' losses, however they are spread over ranks
    and accumulation steps (weights and mean: our choice).

    Args:
        output: of the extractor.
        emotions: int64 (B,), index into `EMOTIONS`; -100 where the label or the clip is missing.

    Returns:
        float32 scalar in nats, 0 where no row is labelled.
    """
    heads = (
        (output.fused_logits, 1.0, emotions),
        (output.audio_logits, 0.5, emotions.masked_fill(~output.audio_mask.any(dim=1), -100)),
        (output.video_logits, 0.5, emotions.masked_fill(~output.video_mask.any(dim=1), -100)),
    )
    total = torch.zeros((), device=emotions.device)
    for logits, weight, labels in heads:
        nll = functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")
        total = total + weight * nll / len(labels)
    return total


def _transformer(config: ExtractorConfig, num_layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_heads,
        dim_feedforward=4 * config.hidden_size,
        dropout=config.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(config.hidden_size), enable_nested_tensor=False)


def _masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


AutoModel.register(ExtractorConfig, EmotionExtractor)

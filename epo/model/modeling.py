"""The dialogue model: a causal language model that reads memories of the past and hears and sees the present."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

from compressor.modeling import MambaCompressor
from compressor.placeholders import embed_tokens, fill_placeholders
from compressor.seams import cache_name
from epo.emotions import EMOTIONS
from epo.model.configuration import EpoConfig
from epo.model.extractor import EmotionExtractor, ExtractorOutput
from epo.model.low_rank import add_low_rank
from epo.model.shared_prompt import pack_pairs

CONTEXT_KEYS = ("history_ids", "input_features", "num_mel_frames", "pixel_values", "num_video_frames")
"""Inputs beside the prompt; read once, at the first step of a generation."""


class ModelFitError(ValueError):
    """Parts that do not belong together, such as a compressor made for another language model."""


@dataclass
class EpoOutput(CausalLMOutputWithPast):
    """Output of backbone and model; fields that do not apply are None.

    Logits, (B, T, V), and the language model's cache are fields of transformers, which renames the cache at times.

    Attributes:
        last_hidden_state: (B, T, D), lined up with `input_ids`.
        extractor: `ExtractorOutput` of the clips, where clips were given.
    """

    last_hidden_state: Tensor | None = None
    extractor: ExtractorOutput | None = None


@dataclass
class EncodedContext(ModelOutput):
    """What stands behind the placeholders of a batch, in the language model's embedding space.

    Attributes:
        vectors: token id to ((N, L, D) vectors, bool (N, L) mask), in the order of the prompts.
        clips: `ExtractorOutput`, None where no clips were given.
    """

    vectors: dict[int, tuple[Tensor, Tensor]] | None = None
    clips: ExtractorOutput | None = None


def encode_once(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Run a batch's clips and histories now, for several forwards over the same batch.

    Right where these forwards share compressor and extractor, as a policy and its reference without the LoRA do.

    Args:
        model: `EpoForConditionalGeneration`.
        batch: its inputs.

    Returns:
        The inputs with `context` in the place of `CONTEXT_KEYS`.
    """
    with torch.no_grad():
        context = model.model.encode_context(**{key: batch[key] for key in CONTEXT_KEYS if key in batch})
    return {key: value for key, value in batch.items() if key not in CONTEXT_KEYS} | {"context": context}


class EpoPreTrainedModel(PreTrainedModel):
    """What backbone and model share with transformers."""

    config_class = EpoConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        """Only the modules that join the parts are ours to start; each part has its own rule."""
        backbone: Any = getattr(self, "model", self)
        if module is backbone.clip_head:
            nn.init.normal_(module.weight, std=self.config.embedding_std / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)
        elif module is backbone.emotion_words:
            nn.init.normal_(module.weight, std=self.config.embedding_std)
        elif module is backbone.clip_norm:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class EpoModel(EpoPreTrainedModel):
    """The backbone: all fusion happens here, because TRL calls the backbone and the head apart.

    A clip enters a prompt as one emotion token (the extractor's distribution over emotions, in the space of the
    language model's own emotion words; our choice) and its projected audio and video tokens; the history enters as
    memory tokens.
    """

    def __init__(self, config: EpoConfig) -> None:
        super().__init__(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.extractor = EmotionExtractor(config.extractor_config)
        self.compressor = MambaCompressor(config.compressor_config)
        width = config.text_config.hidden_size
        self.clip_norm = nn.LayerNorm(config.extractor_config.hidden_size)
        self.clip_head = nn.Linear(config.extractor_config.hidden_size, width)
        self.emotion_words = nn.Embedding(len(EMOTIONS), width)
        if config.compressor_config.output_size != width:
            raise ModelFitError(
                f"the compressor writes memories of width {config.compressor_config.output_size}, the language model "
                f"reads {width}; train a compressor for this language model with launch/compressor.py"
            )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embedding."""
        self.language_model.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool = False,
        prompt_lengths: Tensor | None = None,
        history_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        num_mel_frames: Tensor | None = None,
        pixel_values: Tensor | None = None,
        num_video_frames: Tensor | None = None,
        context: EncodedContext | None = None,
        inputs_embeds: None = None,
        **kwargs: Any,
    ) -> EpoOutput:
        """Read prompts with their memories and clips.

        Args:
            input_ids: int64 (B, T), with placeholders; 2B rows of pairs where `prompt_lengths` is given.
            attention_mask: int64 of the same shape, 1 on real tokens.
            position_ids: int64, as transformers' generation makes them.
            use_cache: whether to return the language model's cache.
            prompt_lengths: int64 (B,); given, rows are pairs sharing prompts, each prompt and its media being read
                once (`epo.model.shared_prompt`). Outputs still have 2B rows.
            history_ids: int64 (B, Th), turns in the compressor's vocabulary with memory slots.
            input_features: float (B, mels, Tm), log-mel; see `EmotionExtractor.forward` for this and the next.
            num_mel_frames: int64 (B,), 0 where there is no audio.
            pixel_values: float (B, F, 3, H, W).
            num_video_frames: int64 (B,), 0 where there is no video.
            context: of `encode_context`, instead of the five inputs before it.
            inputs_embeds: None; named because PEFT passes it, and what the language model gets is made here.
            kwargs: passed to the language model; the cache is among them, by the name it has there.

        Raises:
            PlaceholderError: placeholders and memories or clip tokens differ in number.
        """
        packed = None
        if prompt_lengths is not None:
            assert attention_mask is not None
            packed = pack_pairs(input_ids, attention_mask, prompt_lengths, pad_id=0)
            input_ids, position_ids = packed.input_ids, packed.position_ids
            attention_mask = packed.additive_mask(self.dtype)
        if context is None:
            context = self.encode_context(history_ids, input_features, num_mel_frames, pixel_values, num_video_frames)
        vectors = context.vectors or {}
        embeds = embed_tokens(self.get_input_embeddings(), input_ids, self._placeholder_ids())
        for token_id, (values, mask) in vectors.items():
            embeds = fill_placeholders(embeds, input_ids, token_id, values, mask)
        output = self.language_model(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = output.last_hidden_state
        cache = cache_name(self.language_model)
        return EpoOutput(
            last_hidden_state=hidden if packed is None else packed.unpack(hidden),
            extractor=context.clips,
            **{cache: output.get(cache)},
        )

    def encode_context(
        self,
        history_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        num_mel_frames: Tensor | None = None,
        pixel_values: Tensor | None = None,
        num_video_frames: Tensor | None = None,
    ) -> EncodedContext:
        """Run compressor and extractor, so that several forwards over the same batch can share the result.

        Args: those of `forward`.
        """
        vectors: dict[int, tuple[Tensor, Tensor]] = {}
        if history_ids is not None:
            memory = self.compressor(input_ids=history_ids)
            vectors[self.config.memory_token_id] = (memory.vectors, memory.mask)
        if input_features is None:
            return EncodedContext(vectors=vectors)
        clips = self.extractor(input_features, num_mel_frames, pixel_values, num_video_frames)
        has_clip = (clips.audio_mask.any(dim=1) | clips.video_mask.any(dim=1)).unsqueeze(1)
        # Called and not read as `.weight`, so that ZeRO-3 gathers it.
        words = self.emotion_words(torch.arange(len(EMOTIONS), device=clips.fused_logits.device))
        emotion = (clips.fused_logits.float().softmax(dim=-1) @ words.float()).unsqueeze(1)
        vectors[self.config.emotion_token_id] = (emotion, has_clip)
        vectors[self.config.audio_token_id] = (self.clip_head(self.clip_norm(clips.audio_tokens)), clips.audio_mask)
        vectors[self.config.video_token_id] = (self.clip_head(self.clip_norm(clips.video_tokens)), clips.video_mask)
        return EncodedContext(vectors=vectors, clips=clips)

    def _placeholder_ids(self) -> tuple[int, int, int, int]:
        config = self.config
        return config.audio_token_id, config.video_token_id, config.emotion_token_id, config.memory_token_id


class EpoForConditionalGeneration(EpoPreTrainedModel, GenerationMixin):
    """Backbone and language-model head; `generate()` as with any transformers model."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: EpoConfig) -> None:
        super().__init__(config)
        self.model = EpoModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        add_low_rank(self, config.low_rank or {})
        self.post_init()

    @classmethod
    def from_parts(
        cls,
        llm: PreTrainedModel,
        extractor: EmotionExtractor,
        compressor: MambaCompressor,
        tokenizer: PreTrainedTokenizerBase,
        placeholder_ids: dict[str, int],
    ) -> "EpoForConditionalGeneration":
        """Join trained parts into one model.

        Args:
            llm: any causal language model of transformers whose decoder is reachable as `base_model`.
            extractor: an `EmotionExtractor`.
            compressor: a `MambaCompressor` made for this language model.
            tokenizer: the language model's, for the embeddings of the emotion words.
            placeholder_ids: `audio_token_id`, `video_token_id`, `emotion_token_id`, `memory_token_id`.

        Raises:
            ModelFitError: the compressor's memories have another width than the language model's embeddings.
        """
        embedding = llm.get_input_embeddings().weight.detach()
        config = EpoConfig(
            text_config=llm.config,
            extractor_config=extractor.config,
            compressor_config=compressor.config,
            embedding_std=embedding.float().std().item(),
            **placeholder_ids,
        )
        model = cls(config).to(llm.dtype)
        model.model.language_model = llm.base_model
        model.model.extractor, model.model.compressor = extractor.to(llm.dtype), compressor.to(llm.dtype)
        model.lm_head = llm.get_output_embeddings()
        words = [tokenizer.encode(emotion, add_special_tokens=False) for emotion in EMOTIONS]
        with torch.no_grad():
            rows = torch.stack([embedding[ids].mean(dim=0) for ids in words])
            model.model.emotion_words.weight.copy_(rows)
        if llm.generation_config is not None:
            model.generation_config = llm.generation_config
        return model

    def get_output_embeddings(self) -> nn.Module:
        """Return the language-model head."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the language-model head."""
        self.lm_head = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        history_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        num_mel_frames: Tensor | None = None,
        pixel_values: Tensor | None = None,
        num_video_frames: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> EpoOutput:
        """Return logits; see `EpoModel.forward` for the inputs.

        They are named here too because `generate()` accepts and prepares only what this signature names.

        Args:
            input_ids: int64 (B, T).
            attention_mask: int64 (B, T), 1 on real tokens.
            position_ids: int64 (B, T).
            history_ids: int64 (B, Th).
            input_features: float (B, mels, Tm).
            num_mel_frames: int64 (B,).
            pixel_values: float (B, F, 3, H, W).
            num_video_frames: int64 (B,).
            logits_to_keep: score only this many last positions, 0 for all, or those of these indices.
            labels: ignored; losses live in `epo.training`. TRL passes them.
            kwargs: passed to the backbone.
        """
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            history_ids=history_ids,
            input_features=input_features,
            num_mel_frames=num_mel_frames,
            pixel_values=pixel_values,
            num_video_frames=num_video_frames,
            **kwargs,
        )
        hidden = output.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        output.logits = self.lm_head(hidden[:, kept])
        return output

    # With the signature of what it overrides, since `generate()` takes a user's cache only by a name that stands there.
    @functools.wraps(GenerationMixin.prepare_inputs_for_generation, assigned=())
    def prepare_inputs_for_generation(self, *args: Any, is_first_iteration: bool = False, **kwargs: Any) -> dict:
        """Give history and clips to the first step only: the cache holds them afterwards."""
        inputs = super().prepare_inputs_for_generation(*args, is_first_iteration=is_first_iteration, **kwargs)
        if not is_first_iteration and inputs.get("use_cache"):
            for key in CONTEXT_KEYS:
                inputs.pop(key, None)
        return inputs


AutoModel.register(EpoConfig, EpoModel)
AutoModelForCausalLM.register(EpoConfig, EpoForConditionalGeneration)

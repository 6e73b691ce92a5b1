"""The dialogue model: a causal language model that reads memories of the past and hears and sees the present."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from compressor.kinds import compressor_class
from compressor.language_model import embed_words, embedding_std, logits_at, logits_of, require_supported
from compressor.modeling import MambaCompressor
from compressor.placeholders import embed_tokens, fill_placeholders
from compressor.precision import cast_weights
from compressor.text import IGNORE
from epo.emotions import EMOTIONS
from epo.model.configuration import EpoConfig
from epo.model.emotion_token import emotion_shares
from epo.model.encoded_context import CONTEXT_KEYS, MEMORY_KEYS, PLACED_KEYS, EncodedContext
from epo.model.extractor import EmotionExtractor, ExtractorOutput
from epo.model.generation import generate
from epo.model.low_rank import add_low_rank
from epo.model.modes import rest_frozen
from epo.model.shared_prompt import pack, pair_masks
from epo.model.token_scores import TokenScores, token_scores

_ENCODED = (*CONTEXT_KEYS, *MEMORY_KEYS, *PLACED_KEYS, "told_emotions")


class ModelFitError(ValueError):
    """Parts that do not belong together, such as a compressor made for another language model."""


@dataclass
class EpoOutput(ModelOutput):
    """What the model says to a batch.

    Attributes:
        logits: (B, T, V), or the columns of `logits_to_keep`, as the language model itself scores.
        extractor: `ExtractorOutput` of the clips, None where no clips were given.
    """

    logits: Tensor | None = None
    extractor: ExtractorOutput | None = None


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
        context = model.encode_context(**{key: batch[key] for key in _ENCODED if key in batch})
    rest = {key: value for key, value in batch.items() if key not in _ENCODED}
    return rest | {"context": context}


class EpoForConditionalGeneration(PreTrainedModel):
    """A language model kept whole, an extractor for the current clip, a compressor for the history.

    A clip enters a prompt as one emotion token (the extractor's distribution over emotions, in the space of the
    language model's own emotion words; our choice) and its projected audio and video tokens; the history enters as
    memory tokens. All of them are embeddings in the places of placeholders: the language model scores and generates
    by its own rules.

    Attributes:
        shares_prompts: whether pairs are read with one prompt for both replies; two rows a pair are read until
            `epo.model.shared_prompt.prove_sharing` has shown that it changes nothing.
        tokens_per_row: of rows that hold several such pairs, set by `prove_packing`; None for one pair a row.
        has_taken_lora_in: whether its weights hold what was learnt in float32, which rounding would lose.
    """

    config_class = EpoConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: EpoConfig,
        llm: PreTrainedModel | None = None,
        extractor: EmotionExtractor | None = None,
        compressor: MambaCompressor | None = None,
    ) -> None:
        """Join given parts, or build from the configuration those that are not given.

        Raises:
            ModelFitError: the compressor's memories have another width than the language model's embeddings.
        """
        super().__init__(config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config) if llm is None else llm
        width: Any = self.get_input_embeddings().embedding_dim  # of some OPT models not their hidden size
        if config.compressor_config.output_size != width:
            raise ModelFitError(
                f"the compressor writes memories of width {config.compressor_config.output_size}, the language model "
                f"reads {width}; train a compressor for this language model with launch/compressor.py"
            )
        self.extractor = EmotionExtractor(config.extractor_config) if extractor is None else extractor
        memory = config.compressor_config
        self.compressor = compressor_class(memory)(memory) if compressor is None else compressor
        self.clip_norm = nn.LayerNorm(config.extractor_config.hidden_size)
        self.clip_head = nn.Linear(config.extractor_config.hidden_size, width)
        self.emotion_words = nn.Embedding(len(EMOTIONS), width)
        self.shares_prompts: bool | None = None
        self.tokens_per_row: int | None = None
        self.has_taken_lora_in = False
        add_low_rank(self, config.low_rank or {})
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Say no, so that transformers also starts the buffers that a part's folder does not hold (Falcon-H1's)."""
        return False

    def _init_weights(self, module: nn.Module) -> None:
        """Only the modules that join the parts are ours to start; each part has its own rule."""
        if module is self.clip_head:
            nn.init.normal_(module.weight, std=self.config.embedding_std / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)
        elif module is self.emotion_words:
            nn.init.normal_(module.weight, std=self.config.embedding_std)
        elif module is self.clip_norm:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

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
            llm: a causal language model of transformers, kept as it is.
            extractor: an `EmotionExtractor`.
            compressor: a `MambaCompressor` made for this language model.
            tokenizer: the language model's, for the embeddings of the emotion words.
            placeholder_ids: `audio_token_id`, `video_token_id`, `emotion_token_id`, `memory_token_id`.

        Raises:
            ModelFitError: the compressor's memories have another width than the language model's embeddings.
            LanguageModelError: the language model cannot read embeddings as it reads words.
        """
        require_supported(llm)
        # Copies, because transformers settles the attention of a model's configurations anew when the model is made.
        config = EpoConfig(
            text_config=copy.deepcopy(llm.config),
            extractor_config=copy.deepcopy(extractor.config),
            compressor_config=copy.deepcopy(compressor.config),
            embedding_std=embedding_std(llm),
            **placeholder_ids,
        )
        model = cast_weights(cls(config, llm, extractor, compressor), llm.dtype)
        with torch.no_grad():
            for emotion, row in zip(EMOTIONS, model.emotion_words.weight, strict=True):
                ids = tokenizer.encode(emotion, add_special_tokens=False)
                row.copy_(embed_words(llm, torch.tensor(ids)).mean(dim=0))
        return model

    def train(self, mode: bool = True) -> "EpoForConditionalGeneration":
        """Enter or leave training mode; frozen parts of extractor and compressor stay out: no dropout or augmentation.

        The language model's layers are left in it: only there do they checkpoint their gradients.
        """
        super().train(mode)
        if mode:
            rest_frozen(self.extractor)
            rest_frozen(self.compressor)
        return self

    @property
    def generation_config(self) -> GenerationConfig | None:
        """The language model's settings of generation, which are the only ones."""
        return self.language_model.generation_config if "language_model" in self._modules else None

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | None) -> None:
        if "language_model" in self._modules:
            self.language_model.generation_config = value

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embedding."""
        table: nn.Module = self.language_model.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embedding."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's head."""
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's head."""
        self.language_model.set_output_embeddings(value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        history_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        num_mel_frames: Tensor | None = None,
        pixel_values: Tensor | None = None,
        num_video_frames: Tensor | None = None,
        memory_vectors: Tensor | None = None,
        memory_mask: Tensor | None = None,
        placed_vectors: Tensor | None = None,
        placed_ids: Tensor | None = None,
        told_emotions: Tensor | None = None,
        context: EncodedContext | None = None,
        logits_to_keep: Tensor | None = None,
        labels: Tensor | None = None,
        fused_lm_head: bool = False,
        **kwargs: Any,
    ) -> EpoOutput | TokenScores:
        """Read prompts and replies with their memories and clips; losses live in `epo.training`.

        Args:
            input_ids: int64 (B, T), with placeholders, right-padded.
            attention_mask: int64 (B, T), 1 on real tokens.
            prompt_lengths: int64 (B / 2,); given, the second half of the rows are rejected replies to the prompts of
                the first half, whose memories and clips come once a pair.
            history_ids: int64 (B, Th), turns in the compressor's vocabulary with memory slots; half as many rows
                where `prompt_lengths` is given, as for the next four.
            input_features: float (B, mels, Tm), log-mel; see `EmotionExtractor.forward` for this and the next.
            num_mel_frames: int64 (B,), 0 where there is no audio.
            pixel_values: float (B, F, 3, H, W).
            num_video_frames: int64 (B,), 0 where there is no video.
            memory_vectors: (B, M, D), instead of `history_ids`: what a `MemoryStream` made of them.
            memory_mask: bool (B, M), which of these are real.
            placed_vectors: (B, L, D), instead of all these: what was made of them, in the order of the placeholders.
            placed_ids: int64 (B, L), which placeholder each of these stands for; -1 for none.
            told_emotions: int64 (B,), what the emotion token says instead of what the extractor finds, -1 for that.
            context: of `encode_context`, instead of the ten inputs before it.
            logits_to_keep: int64 (C,), score only these columns.
            labels: int64 (B, T), `IGNORE` where nothing is scored; read with `fused_lm_head` only.
            fused_lm_head: return `TokenScores` of the labels instead of logits; the name is TRL's.
            kwargs: passed to the language model where they are not None, as PEFT's often are.

        Raises:
            PlaceholderError: placeholders and memories or clip tokens differ in number.
        """
        if context is None:
            clips = (input_features, num_mel_frames, pixel_values, num_video_frames)
            memories, placed = (memory_vectors, memory_mask), (placed_vectors, placed_ids)
            context = self.encode_context(history_ids, *clips, *memories, *placed, told_emotions)
        if fused_lm_head:
            assert labels is not None
            return self._score_labels(input_ids, attention_mask, labels, prompt_lengths, context)
        if prompt_lengths is not None:
            context = context.rows(_both_replies(prompt_lengths))
        embeds = self.embed_prompts(input_ids, context)
        given = {name: value for name, value in kwargs.items() if value is not None}
        logits = logits_at(
            self.language_model, logits_to_keep, inputs_embeds=embeds, attention_mask=attention_mask, **given
        )
        return EpoOutput(logits=logits, extractor=context.clips)

    def encode_context(
        self,
        history_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        num_mel_frames: Tensor | None = None,
        pixel_values: Tensor | None = None,
        num_video_frames: Tensor | None = None,
        memory_vectors: Tensor | None = None,
        memory_mask: Tensor | None = None,
        placed_vectors: Tensor | None = None,
        placed_ids: Tensor | None = None,
        told_emotions: Tensor | None = None,
    ) -> EncodedContext:
        """Run compressor and extractor, so that several forwards over the same batch can share the result.

        Args: those of `forward`.
        """
        if placed_vectors is not None and placed_ids is not None:
            return EncodedContext.of_placed(placed_vectors, placed_ids, self._placeholder_ids())
        vectors: dict[int, tuple[Tensor, Tensor]] = {}
        if history_ids is not None:
            memory = self.compressor(input_ids=history_ids)
            vectors[self.config.memory_token_id] = (memory.vectors, memory.mask)
        elif memory_vectors is not None:
            assert memory_mask is not None
            vectors[self.config.memory_token_id] = (memory_vectors, memory_mask)
        if input_features is None:
            return EncodedContext(vectors=vectors)
        clips = self.extractor(input_features, num_mel_frames, pixel_values, num_video_frames)
        has_clip = (clips.audio_mask.any(dim=1) | clips.video_mask.any(dim=1)).unsqueeze(1)
        # Called and not read as `.weight`, so that ZeRO-3 gathers it.
        words = self.emotion_words(torch.arange(len(EMOTIONS), device=clips.fused_logits.device))
        emotion = (emotion_shares(clips.fused_logits, told_emotions) @ words.float()).unsqueeze(1)
        vectors[self.config.emotion_token_id] = (emotion, has_clip)
        vectors[self.config.audio_token_id] = (self.clip_head(self.clip_norm(clips.audio_tokens)), clips.audio_mask)
        vectors[self.config.video_token_id] = (self.clip_head(self.clip_norm(clips.video_tokens)), clips.video_mask)
        return EncodedContext(vectors=vectors, clips=clips)

    def embed_prompts(self, input_ids: Tensor, context: EncodedContext) -> Tensor:
        """Return what the language model reads, (B, T, D): its own embeddings, and the context at the placeholders.

        Args:
            input_ids: int64 (B, T), with placeholders.
            context: of `encode_context`, its rows in the order of these.

        Raises:
            PlaceholderError: placeholders and memories or clip tokens differ in number.
        """
        embeds = embed_tokens(self.get_input_embeddings(), input_ids, self._placeholder_ids())
        for token_id, (values, mask) in (context.vectors or {}).items():
            embeds = fill_placeholders(embeds, input_ids, token_id, values, mask)
        return embeds

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> Tensor:
        """Answer prompts by the language model's own `generate()`.

        Args:
            input_ids: int64 (B, T), with placeholders, left-padded.
            attention_mask: int64 (B, T), 1 on real tokens.
            kwargs: the inputs of `encode_context`, or `context`; the rest goes to the language model's `generate()`.

        Returns:
            int64 (B, T + N), prompts and what was generated, right-padded.
        """
        inputs = {key: kwargs.pop(key) for key in _ENCODED if key in kwargs}
        context = kwargs.pop("context", None) or self.encode_context(**inputs)
        embeds = self.embed_prompts(input_ids, context)
        # Placeholders may lie beyond the vocabulary, where a processor of scores would not find them.
        is_placeholder = torch.isin(input_ids, torch.tensor(self._placeholder_ids(), device=input_ids.device))
        ids = input_ids.masked_fill(is_placeholder, 0)
        said = generate(self.language_model, ids, attention_mask, embeds, **kwargs)
        return torch.cat([input_ids, said[:, input_ids.size(1) :]], dim=1)

    def _placeholder_ids(self) -> tuple[int, int, int, int]:
        config = self.config
        return config.audio_token_id, config.video_token_id, config.emotion_token_id, config.memory_token_id

    def _score_labels(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        prompt_lengths: Tensor | None,
        context: EncodedContext,
    ) -> TokenScores:
        """Score labelled tokens only: a head over the whole prompt is a good part of a small model's work."""
        places = labels[:, 1:] != IGNORE
        rows, columns = places.nonzero(as_tuple=True)
        packed = pack(self, input_ids, attention_mask, prompt_lengths)
        reads: dict[str, Any] = {"attention_mask": attention_mask}
        if packed is not None:
            embeds = packed.laid(self.embed_prompts(packed.input_ids, context))
            masks = pair_masks(packed, self.language_model.config, self.dtype)
            reads = {"attention_mask": masks, "position_ids": packed.position_ids}
            rows, columns = packed.row[rows, columns], packed.source[rows, columns]
        else:
            own = context if prompt_lengths is None else context.rows(_both_replies(prompt_lengths))
            embeds = self.embed_prompts(input_ids, own)
        logits = logits_of(self.language_model, rows, columns, inputs_embeds=embeds, use_cache=False, **reads)
        return token_scores(logits.float(), labels[:, 1:][places], places)


def _both_replies(prompt_lengths: Tensor) -> Tensor:
    """Return which of B contexts belongs to each of 2B rows."""
    return torch.arange(len(prompt_lengths), device=prompt_lengths.device).repeat(2)


AutoModelForCausalLM.register(EpoConfig, EpoForConditionalGeneration)

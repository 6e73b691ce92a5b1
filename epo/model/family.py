"""Model families: what trainers and evaluation may ask of a model and of its processor, and which family one is of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from compressor.chat import ChatFormat
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Turn
from epo.emotions import Emotion
from epo.model.clip_reader import ClipFeatures
from epo.model.quantized import Quantization, quantize_linears, require_quantizer
from epo.part_names import find_part
from epo.registry import Registry, modules_of


class FamilyError(ValueError):
    """A model that no family knows, or a processor of another family than the model's."""


class ClipSource(Protocol):
    """Reads clips as the encoders of a family want them."""

    def read(self, clip: Clip | None, cache: ClipCache) -> ClipFeatures:
        """Return the features of a clip, decoded by `epo.data.media.decode_clip`; a missing half stays None."""

    def batch(self, clips: Sequence[ClipFeatures]) -> dict[str, Tensor]:
        """Stack the features of clips, under the names the encoders give them."""


class FamilyPrompt(Protocol):
    """A prompt, ready to be batched."""

    @property
    def input_ids(self) -> list[int]:
        """Token ids, with placeholders where clips and memories stand."""

    @property
    def num_history_tokens(self) -> int:
        """How many of them the history takes up."""


class DialogueProcessor(Protocol):
    """What collators and evaluation ask of a processor; it is also a `ProcessorMixin` of transformers."""

    tokenizer: Any

    @property
    def clips(self) -> ClipSource:
        """The reader of clips, with this processor's encoders and limits."""

    @property
    def chat(self) -> ChatFormat:
        """How the language model is talked to."""

    def encode_prompt(self, history: Sequence[Turn], current: Turn, clip: ClipFeatures, use_memory: bool = True) -> Any:
        """Return the `FamilyPrompt` of the reply to a turn.

        `use_memory` false writes the history out as text, for comparison; a family without memories always does.
        """

    def encode_reply(self, text: str, emotion: Emotion | None) -> list[int]:
        """Return the ids of a reply, its emotion label first, closed as the chat template closes a turn."""

    def batch_context(self, prompts: Sequence[Any]) -> dict[str, Tensor]:
        """Return the tensors behind the placeholders of prompts, under the names the model's forward gives them.

        Clips come once a prompt: where a batch holds `prompt_lengths`, B prompts stand for 2B rows.
        """


class Family(Protocol):
    """What a trainer and an evaluation may ask of a model: one file a family, whose `FAMILY` is one of these.

    Models are asked for bare, without PEFT around them.

    Attributes:
        model_class: name of the class whose instances, and those of its subclasses, are of this family.
        processor_class: name of the class of their processors, which are `DialogueProcessor`s.
        model_type: what `config.json` of a saved model says.
    """

    model_class: str
    processor_class: str
    model_type: str

    def load(self, folder: str, dtype: str, bf16: bool) -> tuple[Any, DialogueProcessor]:
        """Load model and processor from one folder, all weights in `dtype`; `bf16` says what it is computed with."""

    def prepare_scoring(self, model: nn.Module) -> None:
        """Let `model(**batch, labels=labels, fused_lm_head=True)` return `TokenScores` of the labels.

        Batches are those of `PairCollator`. Asked again it changes nothing; it undoes what TRL put in its place.
        """

    def encode_once(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Any]:
        """Encode what policy and reference have in common, clips mostly, for several forwards over a batch."""

    def encoded_prompts(self, model: nn.Module, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]] | None:
        """Return the placeholders of each prompt of a batch that `encode_once` returned, and what stands there.

        int64 (N,) and (N, D) each, in the prompt's order: a batch may bring them instead of what they were made of, as
        `epo.model.encoded_context.PLACED_KEYS`. None where they cannot be kept apart from the rest of a batch.
        """

    def share_prompts(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Read each prompt once a pair from now on, if that changes nothing on this batch; else return the reason."""

    def pack_rows(self, model: nn.Module, batch: dict[str, Any], tokens_per_row: int) -> str | None:
        """Read several pairs in rows of at most so many tokens from now on, if that changes nothing on this batch.

        Else return the reason. Asked only of a model that reads each prompt once a pair.
        """

    def attend_in_blocks(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Let the language model attend by FlexAttention from now on, if that changes nothing on this batch.

        Else return the reason. Asked where a recipe wants it, and of a model that reads each prompt once a pair.
        """

    def lora_targets(self, model: nn.Module) -> list[str]:
        """Return the full names of the language model's linear layers: not those of encoders, nor the head."""

    def language_model_weights(self, model: nn.Module) -> list[str]:
        """Return the full names of all parameters of the language model, embeddings and head too: none of encoders."""

    def freeze_for_preference(self, model: nn.Module) -> None:
        """Let nothing be drawn at random in the two forwards that are compared: dropout, augmentation."""


FAMILIES: Registry[Family] = Registry(
    "model family", "epo.families", lambda: modules_of("epo.model.families", "FAMILY")
)
"""Families by name: ours are the modules of `epo.model.families`."""


def bare(model: Any) -> Any:
    """Return a model without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def family_of(model: Any) -> Family:
    """Return the family of a model, with or without PEFT around it.

    Raises:
        FamilyError: it is of none; the message names the families and the remedy.
    """
    names, families = _class_names(bare(model)), FAMILIES.all()
    for family in families.values():
        if family.model_class in names:
            return family
    known = {family.model_class: name for name, family in families.items()}
    inside = [name for name, part in _children(model) if known.keys() & set(_class_names(part))]
    remedy = (
        f"give its part {inside[0]!r}, which is one"
        if inside
        else "join a language model with extractor and compressor by EpoForConditionalGeneration.from_parts, or write "
        "a family for it (docs/families.md)"
    )
    wanted = ", ".join(f"{kind} ({name})" for kind, name in known.items())
    raise FamilyError(f"the model is a {names[0]}, of no model family; want one of {wanted}: {remedy}")


def load_of_family(
    folder: str, dtype: str = "float32", bf16: bool = False, quantize: Quantization = "none"
) -> tuple[Any, DialogueProcessor]:
    """Load a whole model and its processor from a folder, of whatever family it is.

    Args:
        folder: of the model, or its name where a folder of parts stands in for the hub (`epo.part_names`).
        dtype: of all its weights, whatever they were saved in.
        bf16: whether it will be computed with in bfloat16 whatever its weights are.
        quantize: how its language model's linear layers are held.

    Raises:
        FamilyError: it holds a model of no family.
        MissingExtraError: the kernels that `quantize` needs are not installed.
        PartError: it holds no model, or not all of it.
        QuantizationError: its language model cannot be quantized, or would lose what it learnt.
    """
    require_quantizer(quantize)
    place = find_part(folder)
    if place.is_local:
        folder = place.source
    try:
        kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return FAMILIES.get("composed").load(folder, dtype, bf16)  # which says what is not there
    for family in FAMILIES.all().values():
        if family.model_type == kind:
            model, processor = family.load(folder, dtype, bf16)
            if quantize != "none":
                quantize_linears(model, family.lora_targets(model), quantize, folder)
            return model, processor
    known = ", ".join(f"{family.model_type!r} ({name})" for name, family in FAMILIES.all().items())
    raise FamilyError(
        f"{folder}: holds a model of type {kind!r}, of no model family; want one of {known}: make one with "
        "launch/sft.py, or write a family for it (docs/families.md)"
    )


def require_processor(family: Family, processor: Any) -> None:
    """Refuse a processor that makes prompts for another family.

    Raises:
        FamilyError: names both and the remedy.
    """
    names = _class_names(processor)
    if family.processor_class not in names:
        raise FamilyError(
            f"the processor is a {names[0]}, but the model is of the family of {family.model_class}; want its "
            f"{family.processor_class}: load both from the same folder"
        )


def _children(model: Any) -> list[tuple[str, nn.Module]]:
    return list(model.named_children()) if isinstance(model, nn.Module) else []


def _class_names(thing: object) -> list[str]:
    return [kind.__name__ for kind in type(thing).__mro__]

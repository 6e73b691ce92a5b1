"""The model of a stage without its weights: built by the stage's own classes and settled by its own rules."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressor.kinds import compressor_class
from compressor.precision import cast_weights, keep_trained_in_float32
from epo.model.checkpoints import DTYPES
from epo.model.extractor import EmotionExtractor
from epo.model.family import bare
from epo.model.linears import linears_below
from epo.model.live_memory import skeleton
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.quantized import Quantization, quantize_linears, weight_sizes
from epo.training.full_tuning import prepare_for_full_tuning
from epo.training.lora import LoraVariant, lora_config, prepare_for_tuning
from epo.training.planned_steps import (
    StepSizes,
    answering_step,
    compressor_step,
    extractor_step,
    pair_step,
    text_step,
    tuning_step,
)
from launch.checkup.parts_found import whole_config

COMPONENTS = {
    "LoRA": (".lora_",),
    "extractor": ("extractor.",),
    "compressor": ("compressor.",),
    "projections": ("clip_norm.", "clip_head.", "emotion_words."),
    "language model": ("language_model.",),
}
"""Components of the whole model, and what the names of their parameters contain or begin with; the first that fits."""


@dataclass(frozen=True)
class Parts:
    """The configurations that a stage's model is made from; None where it has no such part."""

    llm: Any = None
    extractor: Any = None
    compressor: Any = None


@dataclass(frozen=True)
class StageModel:
    """A stage's model, on the meta device.

    Attributes:
        model: that is trained or asked.
        step: what is done with a micro-batch of given sizes; its loss, None where nothing is learnt.
        alone: name of its one component where it is not the whole model.
        beside: a frozen model that it is trained through.
    """

    model: nn.Module
    step: Callable[[StepSizes], Tensor | None]
    alone: str | None = None
    beside: nn.Module | None = None


@dataclass(frozen=True)
class Precision:
    """What a stage computes in.

    Attributes:
        dtype: of the weights, as the recipe says it.
        bf16: whether it is computed in bfloat16.
        is_deepspeed: whether DeepSpeed then holds the model in it, instead of autocast.
    """

    dtype: str = "float32"
    bf16: bool = False
    is_deepspeed: bool = False

    def settle(self, model: nn.Module, trains: bool = True) -> None:
        """Hold a model's weights as the stage's trainer does, in place."""
        cast_weights(model, DTYPES[self.dtype])
        if trains and self.bf16 and self.is_deepspeed:
            cast_weights(model, torch.bfloat16)
        elif trains:
            keep_trained_in_float32(model)


def build_stage(script: str, recipe: Any, parts: Parts, precision: Precision) -> StageModel:
    """Build the model of a stage.

    Args:
        script: name of the stage's script.
        recipe: its keys as attributes.
        parts: configurations.
        precision: of weights and arithmetic.
    """
    stage = _BUILDERS[script](recipe, parts)
    precision.settle(stage.model, script != "evaluate.py")
    if stage.beside is not None:
        cast_weights(stage.beside, DTYPES[precision.dtype])
    if script != "evaluate.py":
        stage.model.train()
        if getattr(recipe, "gradient_checkpointing", False):
            _checkpoint(stage.model, getattr(recipe, "gradient_checkpointing_kwargs", None))
    return stage


def count_parameters(stage: StageModel) -> dict[str, tuple[int, int]]:
    """Return trained and frozen parameters by component."""
    counts: dict[str, tuple[int, int]] = {}

    def add(component: str, parameter: nn.Parameter, size: int) -> None:
        trained, frozen = counts.get(component, (0, 0))
        counts[component] = (trained + size, frozen) if parameter.requires_grad else (trained, frozen + size)

    for name, parameter, size in weight_sizes(stage.model):
        plain = name.removeprefix("base_model.model.")
        is_lora = ".lora_" in name
        fitting = (
            part for part, marks in COMPONENTS.items() if plain.startswith(marks) or (is_lora and part == "LoRA")
        )
        add(stage.alone or next(fitting, "other"), parameter, size)
    for _, parameter, size in [] if stage.beside is None else weight_sizes(stage.beside):
        add("language model", parameter, size)
    return counts


def depths(parts: Parts) -> dict[str, int]:
    """Return how many layers each stack of a model has."""
    found = {}
    if parts.llm is not None:
        found["llm"] = parts.llm.num_hidden_layers
    if parts.extractor is not None:
        found["audio"] = parts.extractor.audio_config.num_hidden_layers
        found["vision"] = parts.extractor.vision_config.num_hidden_layers
    if parts.compressor is not None:
        found["compressor"] = parts.compressor.backbone_config.num_hidden_layers
    return found


def cut(parts: Parts, layers: Mapping[str, int]) -> Parts:
    """Return parts whose stacks are less deep, to be stepped through in little time.

    Args:
        parts: configurations; they stay as they are.
        layers: by name of the stack, its layers.
    """
    parts = copy.deepcopy(parts)
    for name, count in layers.items():
        _cut_config(_stack(parts, name), count)
    return parts


def period(config: Any) -> int:
    """Return after how many layers the kinds of a stack's layers come again; 1 where all are alike."""
    kinds = getattr(config, "layer_types", None) or [None] * int(config.num_hidden_layers)
    sizes = range(1, len(kinds) + 1)
    return next(size for size in sizes if all(kinds[i] == kinds[i % size] for i in range(len(kinds))))


def stack_period(parts: Parts, name: str) -> int:
    """Return `period` of a stack of some parts."""
    return period(_stack(parts, name))


def _stack(parts: Parts, name: str) -> Any:
    if name == "llm":
        return parts.llm
    if name == "compressor":
        return parts.compressor.backbone_config
    return getattr(parts.extractor, f"{name}_config")


def _cut_config(config: Any, count: int) -> None:
    """Leave a configuration its first layers, in place."""
    before = config.num_hidden_layers
    if hasattr(config, "encoder_layers"):
        config.encoder_layers = count
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == before:
            setattr(config, name, value[:count])
    config.num_hidden_layers = count


def _still(extractor: Any) -> Any:
    """Return an extractor's configuration without augmentation, which draws numbers and holds next to nothing."""
    extractor = copy.deepcopy(extractor)
    extractor.augmentation = 0.0
    return extractor


def _llm(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(copy.deepcopy(config))


def _whole(recipe: Any, parts: Parts) -> EpoForConditionalGeneration:
    config = whole_config(copy.deepcopy(parts.llm), _still(parts.extractor), copy.deepcopy(parts.compressor))
    model = EpoForConditionalGeneration(config)
    _hold(model, "language_model.", recipe)
    return model


def _hold(model: nn.Module, prefix: str, recipe: Any) -> None:
    """Hold the linear layers of a model as the recipe says, in place."""
    quantize: Quantization = getattr(recipe, "quantize", "none")
    if quantize != "none":
        quantize_linears(cast_weights(model, DTYPES[recipe.dtype]), linears_below(model, prefix), quantize)


def _variant(recipe: Any) -> LoraVariant:
    variant: LoraVariant = getattr(recipe, "lora_variant", "plain")
    return variant


def _text(recipe: Any, parts: Parts) -> StageModel:
    model = skeleton(lambda: _llm(parts.llm))
    return StageModel(model, lambda sizes: text_step(model, sizes), "language model")


def _tuned(recipe: Any, parts: Parts) -> StageModel:
    def build() -> Any:
        model = _whole(recipe, parts)
        prepare_for_tuning(
            model, recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, recipe.trainable, _variant(recipe)
        )
        return model

    model = skeleton(build)
    return StageModel(model, lambda sizes: tuning_step(model, sizes, recipe.emotion_weight))


def _extractor(recipe: Any, parts: Parts) -> StageModel:
    model = skeleton(lambda: EmotionExtractor(_still(parts.extractor)))
    return StageModel(model, lambda sizes: extractor_step(model, sizes), "extractor")


def _compressor(recipe: Any, parts: Parts) -> StageModel:
    model = skeleton(lambda: compressor_class(parts.compressor)(copy.deepcopy(parts.compressor)))
    model.cut_gradients(recipe.backprop_tokens)

    def read_through() -> Any:
        llm = _llm(parts.llm)
        _hold(llm, "", recipe)
        return llm

    llm = skeleton(read_through).requires_grad_(False).eval()
    wants = (recipe.reconstruction_weight > 0, recipe.distillation_weight > 0)
    return StageModel(model, lambda sizes: compressor_step(model, llm, sizes, *wants), "compressor", llm)


def _preferring(recipe: Any, parts: Parts) -> StageModel:
    def build() -> Any:
        from peft import get_peft_model

        model = _whole(recipe, parts)
        if getattr(recipe, "tune", "lora") == "all":
            prepare_for_full_tuning(model, in_float32=True)
            return model
        config = lora_config(model, recipe.lora_rank, recipe.lora_alpha, 0.0, _variant(recipe))
        return get_peft_model(model, config)  # as TRL does

    model: Any = skeleton(build)

    def step(sizes: StepSizes) -> Any:
        return pair_step(model, sizes, recipe.conditional_weight > 0, recipe.tokens_per_row)

    return StageModel(model, step)


def _answering(recipe: Any, parts: Parts) -> StageModel:
    model = skeleton(lambda: _whole(recipe, parts)).requires_grad_(False).eval()
    return StageModel(model, lambda sizes: answering_step(model, sizes))


def _checkpoint(model: Any, kwargs: Any) -> None:
    """Let a model recompute its activations, as transformers' trainer does, and TRL's of one with a LoRA around it."""
    settings = {"use_reentrant": False} | (kwargs or {})
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    if bare(model) is not model:
        model.enable_input_require_grads()


_BUILDERS: dict[str, Callable[[Any, Parts], StageModel]] = {
    "sft.py": lambda recipe, parts: (_text if recipe.input == "text" else _tuned)(recipe, parts),
    "extractor.py": _extractor,
    "compressor.py": _compressor,
    "epo.py": _preferring,
    "evaluate.py": _answering,
}

__all__ = [
    "COMPONENTS",
    "Parts",
    "Precision",
    "StageModel",
    "build_stage",
    "count_parameters",
    "cut",
    "depths",
    "stack_period",
]

"""What a stage will hold on one device, told from its recipe, its parts' configurations and the lengths of its data."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from epo.model.linears import layers_around, linears_below
from epo.model.live_memory import WorkingSet, take_part, without_storage, working_set
from epo.model.memory_estimate import Held, Parameters, Sharding, grown, held_in_training, peak_memory
from epo.training.lora import language_model_layers
from epo.training.planned_steps import StepSizes
from launch.checkup.stage_models import Parts, Precision, StageModel, build_stage, cut, depths, stack_period

_SHALLOW = 2
"""Layers of a stack that is stepped through; what further ones add is told from as many more."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device.

    Attributes:
        held: weights, gradients, optimizer's state and buffers.
        lora: of the weights, those of the LoRA.
        activations: what a micro-batch holds until its loss is known.
        logits: of them, the scores over the vocabulary, once.
        peak: of everything, at its fullest.
    """

    held: Held
    lora: int
    activations: int
    logits: int
    peak: int


def estimate_training(
    script: str,
    recipe: Any,
    parts: Parts,
    precision: Precision,
    sharding: Sharding,
    sizes: StepSizes,
    accumulates: bool,
) -> MemoryEstimate:
    """Return what training holds.

    Args:
        script: name of the stage's script.
        recipe: its keys as attributes.
        parts: configurations of the model's parts.
        precision: of weights and arithmetic.
        sharding: over ranks.
        sizes: of the longest micro-batch.
        accumulates: whether a step has several micro-batches on a rank.
    """
    whole = build_stage(script, recipe, parts, precision)
    held = held_in_training(weigh(whole), sharding)
    gradients = sum(p.numel() * p.element_size() for p in whole.model.parameters() if p.requires_grad)
    step = _step_memory(script, recipe, parts, precision, sizes)
    peak = peak_memory(held, step.forward, step.peak, gradients, accumulates)
    lora = sum(p.numel() * p.element_size() for name, p in whole.model.named_parameters() if ".lora_" in name)
    return MemoryEstimate(held, lora, step.forward, logits_bytes(script, parts, sizes), peak)


def estimate_answering(
    recipe: Any, parts: Parts, precision: Precision, sizes: StepSizes, models: int
) -> MemoryEstimate:
    """Return what an evaluation holds: models at once, and a batch of prompts with its replies.

    Args:
        recipe: its keys as attributes.
        parts: configurations of the model's parts.
        precision: of weights and arithmetic.
        sizes: of the longest batch.
        models: how many models are there at once.
    """
    whole = build_stage("evaluate.py", recipe, parts, precision)
    weights = models * sum(p.numel() * p.element_size() for p in whole.model.parameters())
    step = _step_memory("evaluate.py", recipe, parts, precision, sizes)
    return MemoryEstimate(Held(weights), 0, step.peak, logits_bytes("evaluate.py", parts, sizes), weights + step.peak)


def weigh(stage: StageModel) -> Parameters:
    """Return how many parameters a stage's model has, and their bytes; what is held in few bits is never spread."""
    trained = [p for p in stage.model.parameters() if p.requires_grad]
    frozen = [p for p in stage.model.parameters() if not p.requires_grad and p.is_floating_point()]
    beside = [p for p in stage.model.parameters() if not p.is_floating_point()]
    beside += [] if stage.beside is None else stage.beside.parameters()
    in_layers = {id(p) for layer in _layers(stage) for p in layer.parameters()}
    rest = [p for p in stage.model.parameters() if id(p) not in in_layers and p.is_floating_point()]
    return Parameters(
        trained=sum(p.numel() for p in trained),
        frozen=sum(p.numel() for p in frozen),
        trained_bytes=trained[0].element_size() if trained else 4,
        frozen_bytes=max((p.element_size() for p in frozen), default=4),
        beside=sum(p.numel() * p.element_size() for p in beside),
        rest=sum(p.numel() * p.element_size() * (2 if p.requires_grad else 1) for p in rest),
    )


def _layers(stage: StageModel) -> list[nn.Module]:
    """Return what FSDP2 gathers layer by layer; in other models than those with a language model in them nothing."""
    if stage.alone is None:
        return language_model_layers(stage.model)
    return layers_around(stage.model, linears_below(stage.model, "")) if stage.alone == "language model" else []


def logits_bytes(script: str, parts: Parts, sizes: StepSizes) -> int:
    """Return the bytes of the scores over the vocabulary, float32, once."""
    if parts.llm is None:
        return 0
    is_text = parts.compressor is None  # all of a row is learnt
    scored = {"sft.py": sizes.tokens if is_text else sizes.reply, "epo.py": 2 * sizes.reply, "evaluate.py": 1}
    return 4 * sizes.rows * scored.get(script, sizes.reply) * int(parts.llm.vocab_size)


def _step_memory(script: str, recipe: Any, parts: Parts, precision: Precision, sizes: StepSizes) -> WorkingSet:
    """Return what one step holds, stepping through stacks of few layers and adding what each further layer would."""
    full = depths(parts)
    shallow = {name: _shallow(parts, name, count) for name, count in full.items()}
    base = _traced(script, recipe, cut(parts, shallow), precision, sizes)
    forward, peak = base.forward, base.peak
    for name, count in full.items():
        if count > shallow[name]:
            deeper = min(2 * shallow[name], count)
            more = _traced(script, recipe, cut(parts, shallow | {name: deeper}), precision, sizes)
            span = (shallow[name], deeper, count)
            forward += grown(base.forward, more.forward, *span) - base.forward
            peak += grown(base.peak, more.peak, *span) - base.peak
    return WorkingSet(forward, peak)


def _shallow(parts: Parts, name: str, count: int) -> int:
    repeats = stack_period(parts, name)
    wanted = repeats if repeats > 1 else _SHALLOW
    return min(wanted, count) if 2 * wanted < count else count


def _traced(script: str, recipe: Any, parts: Parts, precision: Precision, sizes: StepSizes) -> WorkingSet:
    stage = build_stage(script, recipe, parts, precision)
    by_autocast = precision.bf16 and not precision.is_deepspeed
    with without_storage(), torch.autocast("cpu", torch.bfloat16) if by_autocast else contextlib.nullcontext():
        take_part(stage.model)
        if stage.beside is not None:
            take_part(stage.beside)
        return working_set(lambda: stage.step(sizes))


__all__ = ["MemoryEstimate", "estimate_answering", "estimate_training", "logits_bytes", "weigh"]

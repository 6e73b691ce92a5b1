"""Which precisions and ways of sharding a recipe may ask for, told before anything is loaded; docs/precision.md."""

import os
from typing import Any

from compressor.seams import is_under_fsdp
from epo.extras import require_extra
from launch.deepspeed_check import wrong_deepspeed
from launch.fsdp_check import wrong_fsdp
from launch.recipe import RecipeError

NO_ZERO3 = (
    "quantize: what is held in few bits cannot be sharded by ZeRO-3; start the stage by "
    "launch/accelerate/zero2.yaml, or leave quantize out"
)

NO_FSDP = (
    "quantize: what is held in few bits cannot be sharded by FSDP; start the stage by launch/accelerate/zero2.yaml, or "
    "leave quantize out"
)

NO_SECOND_READING = (
    "conditional_weight: its second reading of a pair ends ZeRO-3's backward pass; start the stage by "
    "launch/accelerate/zero2.yaml or fsdp2.yaml, or leave the key out"
)


def require_precision(recipe: Any, args: Any) -> None:
    """Refuse precision and sharding in which training would be wrong, or was never tried.

    Args:
        recipe: the stage's own keys; `dtype`, `quantize`, `input`, `tune` and `lora_variant` where it has them.
        args: transformers' TrainingArguments. Both may be one object that holds all keys, as the preflight has it.

    Raises:
        RecipeError: names the key and the remedy.
        MissingExtraError: the kernels that `quantize` needs are not installed.
    """
    for reason in (_wrong_precision(recipe, args), _wrong_quantization(recipe, args), _wrong_sharding(args)):
        if reason is not None:
            raise RecipeError(reason)
    require_kernels(recipe)


def require_kernels(recipe: Any) -> None:
    """Refuse to hold weights in few bits without the kernels for it, before torch is imported.

    Args:
        recipe: `quantize` where it has it.

    Raises:
        MissingExtraError: holds the command that installs them.
    """
    if getattr(recipe, "quantize", "none") == "4bit":
        require_extra("quantize: 4bit", "bitsandbytes")


def _wrong_precision(recipe: Any, args: Any) -> str | None:
    dtype = getattr(recipe, "dtype", "float32")
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if args.fp16:
        return "fp16: losses here are not scaled for float16; set bf16: true instead"
    for key in ("bf16_full_eval", "fp16_full_eval"):
        if getattr(args, key):
            return f"{key}: no stage has the trainer evaluate; leave it out, launch/evaluate.py has dtype"
    if dtype == "bfloat16" and getattr(recipe, "input", None) == "text":
        return (
            "dtype: with input: text all weights train, and what trains is kept in float32; leave dtype out, and set "
            "bf16: true to compute in bfloat16"
        )
    if dtype == "bfloat16" and args.bf16 is False:
        return "dtype: bfloat16 weights are computed with in bfloat16; set bf16: true too, or leave dtype out"
    if launched != "no" and not (launched == "bf16" and args.bf16):
        return (
            f"mixed_precision of the accelerate configuration is {launched!r}, which this recipe does not say; set "
            "mixed_precision: 'no' there, and bf16: true here for bfloat16"
        )
    return None


def _wrong_quantization(recipe: Any, args: Any) -> str | None:
    quantize, kind = getattr(recipe, "quantize", "none"), getattr(recipe, "input", None)
    if (
        kind == "audio_visual"
        and getattr(recipe, "lora_variant", "plain") == "dora"
        and (args.bf16 or quantize != "none")
    ):
        return (
            "lora_variant: dora scales the rows of the weights, and in bfloat16 or in few bits its changes would be "
            "rounded away; leave bf16 and quantize out, or take rslora"
        )
    if quantize == "none":
        return None
    if kind == "text":
        return "quantize: with input: text all weights train, and those held in few bits cannot; leave quantize out"
    if getattr(recipe, "tune", "lora") == "all":
        return (
            "quantize: with tune: all the language model's weights train, and those held in few bits cannot; leave "
            "quantize out, or set tune: lora"
        )
    if _is_zero3(args):
        return NO_ZERO3
    return NO_FSDP if is_under_fsdp() else None


def _is_zero3(args: Any) -> bool:
    return getattr(getattr(args, "deepspeed_plugin", None), "zero_stage", None) == 3


def _wrong_sharding(args: Any) -> str | None:
    if getattr(args, "conditional_weight", 0) > 0 and _is_zero3(args):
        return NO_SECOND_READING
    remedy = "start the stage by accelerate launch --config_file launch/accelerate/zero3.yaml"
    if args.fsdp:
        return (
            "fsdp: the launcher must know of it too; leave the key out and start the stage by accelerate launch "
            "--config_file launch/accelerate/fsdp2.yaml"
        )
    if args.deepspeed:
        return f"deepspeed: the launcher must know of it too; leave the key out and {remedy} (or zero2.yaml)"
    if args.parallelism_config is not None or os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false") == "true":
        return f"parallelism_config: only data parallelism and DeepSpeed are known here; leave it out, or {remedy}"
    if os.environ.get("ACCELERATE_USE_MEGATRON_LM", "false") == "true":
        return f"megatron_lm: it knows none of these models; to shard weights {remedy}"
    if is_under_fsdp():
        return wrong_fsdp()
    plugin = getattr(args, "deepspeed_plugin", None)
    return None if plugin is None else wrong_deepspeed(plugin.deepspeed_config)

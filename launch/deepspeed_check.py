"""Which DeepSpeed settings would make a run another one than its recipe says, told before anything is loaded.

The settings come from the accelerate configuration, or from a DeepSpeed file of the user's own that it names.
"""

import os
from typing import Any

_FROM_RECIPE = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
    "gradient_accumulation_steps": "global_batch_size",
    "gradient_clipping": "max_grad_norm",
}
"""What must be "auto", and the recipe's key that says it. DeepSpeed clips no gradient where its own key is missing."""

_OWN_WAYS = {
    "optimizer": "optim, learning_rate and what groups of weights have rates of their own",
    "scheduler": "lr_scheduler_type and warmup_steps",
    "fp16": "bf16; losses here are not scaled for float16",
    "amp": "bf16",
    "elasticity": "global_batch_size, which is exact on any number of ranks",
    "tensor_parallel": "nothing: the models here are not split inside a layer",
    "curriculum_learning": "curriculum, and the order of the data",
    "data_efficiency": "curriculum, and the order of the data",
    "compression_training": "dtype and quantize",
    "sequence_parallel_size": "nothing: a dialogue is not split over ranks",
}
"""What DeepSpeed would do in another way than the recipe asks for, without a word, and the recipe's keys for it."""


def wrong_deepspeed(settings: dict[str, Any]) -> str | None:
    """Return what must be changed in DeepSpeed's settings, None where they leave to the recipe what is the recipe's.

    Args:
        settings: of `DeepSpeedPlugin.deepspeed_config`, before the trainer fills in what is "auto".
    """
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    place = file if file else "deepspeed_config of the accelerate configuration"
    for key, instead in _OWN_WAYS.items():
        if _is_on(settings.get(key)):
            return (
                f"{place}: {key} would take the place of what the recipe says; leave it out, the recipe has {instead}"
            )
    fixed = [key for key in _FROM_RECIPE if settings.get(key) != "auto"]
    if fixed:
        keys = sorted({_FROM_RECIPE[key] for key in fixed})
        return f'{place}: {", ".join(fixed)}: want "auto", because the recipe says it ({", ".join(keys)})'
    zero = settings.get("zero_optimization", {})
    if zero.get("stage") == 3 and zero.get("stage3_gather_16bit_weights_on_model_save") is not True:
        remedy = (
            'set "stage3_gather_16bit_weights_on_model_save": true in zero_optimization'
            if file
            else "set zero3_save_16bit_model: true"
        )
        return f"{place}: under ZeRO-3 the trained weights could not be saved at the end; {remedy}"
    return None


def _is_on(value: Any) -> bool:
    """Tell whether a part of DeepSpeed's settings does anything; most have a switch of their own."""
    if isinstance(value, dict):
        return value.get("enabled", bool(value)) not in (False, "auto")  # "auto": as the recipe says
    return value is not None and value is not False and value != 1

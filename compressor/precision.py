"""In what precision a model is held: weights in the recipe's dtype, those that train and all buffers in float32."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

Model = TypeVar("Model", bound=nn.Module)


def cast_weights(model: Model, dtype: torch.dtype) -> Model:
    """Cast the weights of a model, in place, and not its buffers; returns it.

    Buffers are numbers that are computed with in float32, such as the frequencies of rotary positions: in bfloat16
    position 1,000 would be off by more than a radian.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def keep_trained_in_float32(model: nn.Module) -> None:
    """Hold every weight that trains in float32, in place; those that stand still stay as they are.

    A bfloat16 weight has 8 bits: a step of less than 1/512 of it would be rounded away. Under DeepSpeed with bfloat16
    the optimizer keeps such copies itself, and the model computes with their rounding.

    Args:
        model: before an optimizer holds its parameters.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32)


def hold_in_precision(trainer: Trainer) -> None:
    """Hold what a trainer trains in float32, and its buffers; each trainer here calls it when it is made."""
    keep_trained_in_float32(trainer.model)
    trainer.add_callback(KeepBuffers(trainer.model))


class KeepBuffers(TrainerCallback):
    """Gives a model back its buffers where training starts: DeepSpeed rounds them to bfloat16 with the weights."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[tuple[nn.Module, str, Tensor]] = [
            (module, name, buffer.clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.is_floating_point()
        ]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Put them back, on the device that the model was moved to."""
        for module, name, buffer in self._buffers:
            setattr(module, name, buffer.to(getattr(module, name).device))

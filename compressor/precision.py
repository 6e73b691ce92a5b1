"""In what precision a model is held: weights in the recipe's dtype, those that train and all buffers in float32."""

from typing import TypeVar

import torch
from torch import nn

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

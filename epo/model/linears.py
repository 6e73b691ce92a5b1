"""Which matrices of a model LoRA adapts: the linear layers of its language model."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import Conv1D


class LoraTargetError(ValueError):
    """A model in which there is nothing that LoRA could adapt."""


def linears_below(model: nn.Module, prefix: str) -> list[str]:
    """Return the full names of the linear layers below a module, the model's head left out.

    Linear layers and GPT-2's transposed `Conv1D`. Full names, because a suffix such as `q_proj` would also catch the
    attention of the encoders beside it.

    Args:
        model: the whole.
        prefix: what the names begin with, a dot last: "language_model.".

    Raises:
        LoraTargetError: there is none.
    """
    find: Any = getattr(model, "get_output_embeddings", None)
    head = None if find is None else find()
    found = [
        name
        for name, module in model.named_modules()
        if name.startswith(prefix) and isinstance(module, (nn.Linear, Conv1D)) and module is not head
    ]
    if not found:
        raise LoraTargetError(f"{type(model).__name__} has no linear layer under {prefix!r} that LoRA could adapt")
    return found


def layers_around(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    """Return the layers that modules lie in: the outermost ones that a list of layers numbers, in order.

    Args:
        model: the whole.
        names: full names of modules in it, such as "model.layers.0.mlp.up_proj"; those outside of any list are passed
            over.
    """
    layers = {}
    for name in names:
        parts = name.split(".")
        numbers = [place for place, part in enumerate(parts[:-1]) if part.isdecimal()]
        if numbers:
            layer = ".".join(parts[: numbers[0] + 1])
            layers[layer] = model.get_submodule(layer)
    return list(layers.values())

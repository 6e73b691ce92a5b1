"""Dropout off without leaving training mode, which gradient checkpointing needs."""

from torch import nn


def switch_dropout_off(model: nn.Module, except_for: str | None = None) -> None:
    """Set every dropout rate below a module to 0, however a library keeps it.

    TRL's own switch finds `nn.Dropout` alone. `nn.MultiheadAttention` and the attention layers of transformers keep
    their rate as a number of their own.

    Args:
        model: changed in place; its configuration keeps the rates.
        except_for: modules with this in their name keep theirs.
    """
    for name, module in model.named_modules():
        if except_for is not None and except_for in name:
            continue
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for key, value in vars(module).items():
            if isinstance(value, float) and (key == "dropout" or key.endswith("_dropout")):
                setattr(module, key, 0.0)

"""Lengths as masks: which positions of a batch's rows are real."""

import torch
from torch import Tensor


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Bool (B, size), True below each row's length."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def at_least_one(mask: Tensor) -> Tensor:
    """Let an empty row attend to its first position: softmax over nothing is NaN. Its output is never used."""
    empty = ~mask.any(dim=1, keepdim=True)
    return mask | (empty & (torch.arange(mask.size(1), device=mask.device) == 0))


__all__ = ["at_least_one", "length_mask"]

"""Shared beginnings: what all prompts of a batch begin with is read once, and without gradients, by a frozen model.

A chat template writes the system prompt before every memory. Nothing there depends on a memory, so that no gradient is
wanted of it, and it is the same in each row.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from compressor.language_model import logits_at
from compressor.seams import cache_name

WORTH = 8
"""Tokens from which on a beginning is read apart. Short ones are not worth a pass of their own."""


def num_shared(input_ids: Tensor, memory_id: int, first_scored: int) -> int:
    """Return how many tokens all rows begin with before the first memory and the first column that is scored.

    Args:
        input_ids: int64 (B, T).
        memory_id: of the memory placeholder.
        first_scored: a column whose scores are wanted.
    """
    is_shared = (input_ids == input_ids[:1]).all(dim=0) & (input_ids[0] != memory_id)
    return min(int(is_shared.long().cumprod(dim=0).sum()), first_scored)


def logits_beyond(llm: PreTrainedModel, embeds: Tensor, count: int, columns: Tensor) -> Tensor:
    """Return a frozen model's scores at some columns, with a shared beginning read once.

    Args:
        llm: whose weights stand still, in evaluation mode, and for which `can_share` holds.
        embeds: (B, T, D), the first `count` of them the same in each row.
        count: of `num_shared`.
        columns: int64 (C,), which positions, none before `count`.

    Returns:
        (B, C, V), up to rounding those of whole rows.
    """
    cache = _read(llm, embeds[:1, :count].detach())
    cache.batch_repeat_interleave(len(embeds))
    return logits_at(llm, columns - count, inputs_embeds=embeds[:, count:], use_cache=True, **{cache_name(llm): cache})


@torch.no_grad()
def can_share(llm: PreTrainedModel, embeds: Tensor, count: int, columns: Tensor) -> bool:
    """Tell whether a model scores a batch alike in both ways; tried on the batch itself, arguments of `logits_beyond`.

    Not where it keeps anything but keys and values of all positions, such as a state or a window.
    """
    try:
        cache: Any = _read(llm, embeds[:1, :count])
        if type(cache) is not DynamicCache or any(type(layer).__name__ != "DynamicLayer" for layer in cache.layers):
            return False
        apart = logits_beyond(llm, embeds, count, columns)
    except Exception:  # whatever a family does with a cache that it did not expect
        return False
    whole = logits_at(llm, columns, inputs_embeds=embeds, use_cache=False)
    return bool((apart - whole).abs().max() <= 1e-4 * whole.abs().max().clamp(min=1.0))


@torch.no_grad()
def _read(llm: PreTrainedModel, embeds: Tensor) -> Any:
    return llm.base_model(inputs_embeds=embeds, use_cache=True)[cache_name(llm.base_model)]


__all__ = ["WORTH", "can_share", "logits_beyond", "num_shared"]

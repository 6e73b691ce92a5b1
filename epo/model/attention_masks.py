"""Which key each query sees, in the two forms that attention takes it in: scores to add, and blocks to compute."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from compressor.text import IGNORE

FLEX = "flex_attention"
"""As transformers calls PyTorch's FlexAttention (Dong et al. 2024, arXiv 2412.05496)."""


class FlexAttentionError(ValueError):
    """FlexAttention where it cannot train."""


def require_flex(device: torch.device) -> None:
    """Refuse a device on which FlexAttention has no backward pass.

    Raises:
        FlexAttentionError: names the remedy.
    """
    if device.type == "cpu":
        raise FlexAttentionError(
            "flex_attention: PyTorch has no backward pass of FlexAttention on CPUs; leave it out, or train on a GPU"
        )


Sees = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes rows, queries and keys, int64 of any shape, to whether the query sees the key, bool."""


def seen_keys(sees: Sees, like: Tensor) -> Tensor:
    """Return which key each query sees, bool (R, 1, L, L).

    Args:
        sees: tells it.
        like: (R, L), a tensor of the rows.
    """
    rows, steps = (torch.arange(size, device=like.device) for size in like.shape)
    return sees(rows.view(-1, 1, 1), steps.view(1, -1, 1), steps.view(1, 1, -1)).unsqueeze(1)


def additive_mask(sees: Sees, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (R, 1, L, L) scores to add: eager attention would add a bool mask as 0 and 1.

    Args:
        sees: which key each query sees.
        like: (R, L), a tensor of the rows.
        dtype: of the scores.
    """
    zero = torch.zeros((), dtype=dtype, device=like.device)
    return torch.where(seen_keys(sees, like), zero, torch.finfo(dtype).min)


def block_mask(sees: Sees, like: Tensor) -> BlockMask:
    """Return the blocks of 128 queries and 128 keys of which FlexAttention computes something; it skips the others.

    Args: those of `seen_keys`. Inside blocks that are seen in part it is asked again, so no (L, L) mask is kept.
    """

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(row, query, key)

    rows, length = like.shape
    return create_block_mask(seen, rows, None, length, length, device=str(like.device))


@torch.no_grad()
def prove_flex(model: Any, language_model: Any, batch: dict[str, Any]) -> str | None:
    """Let a language model attend by FlexAttention only if it scores a batch as it did before; else leave it as it was.

    Args:
        model: the whole; in eval mode.
        language_model: of it.
        batch: of `PairCollator`.

    Returns:
        Why it attends as before, None where it does not.
    """
    batch, before = dict(batch), language_model.config._attn_implementation
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)

    def score() -> Tensor:
        log_probs: Tensor = model(**batch, labels=labels, fused_lm_head=True).log_probs
        return log_probs

    plain = score()
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    try:
        language_model.set_attn_implementation(FLEX)
        gap = (score() - plain).abs().max().item()
        reason = None
        if not gap <= tolerance * max(1.0, plain.abs().max().item()):
            reason = f"FlexAttention's log-probabilities differ by {gap:.2g}"
    except Exception as error:  # whatever a compiler, a kernel or a family does with shapes it was not made for
        reason = f"FlexAttention fails ({' '.join(str(error).split())[:120]})"
    if reason is not None:
        language_model.set_attn_implementation(before)
    return reason


__all__ = ["FLEX", "FlexAttentionError", "additive_mask", "block_mask", "prove_flex", "require_flex", "seen_keys"]

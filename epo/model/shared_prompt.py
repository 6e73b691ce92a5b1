"""Shared-prompt forward: chosen and rejected reply of a pair after one common prompt, read by the model once."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from compressor.text import IGNORE

_MASKED = {"full_attention", "attention", "sliding_attention", "chunked_attention"}
_STATELESS = {"mlp", "moe"}
"""Kinds of layers, as configurations name them, that read only what a mask shows them, or one position at a time."""


@dataclass(frozen=True)
class PackedPairs:
    """B pairs as B rows `[prompt | chosen | rejected]` instead of 2B rows `[prompt | reply]`.

    Attributes:
        input_ids: int64 (B, S), right-padded.
        position_ids: int64 (B, S); the rejected reply counts on from the prompt, as if the chosen were not there.
        attention_mask: bool (B, 1, S, S); causal, and the rejected reply does not see the chosen one.
        source: int64 (2B, T), which packed position holds each position of the unpacked rows.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    source: Tensor

    def additive_mask(self, dtype: torch.dtype, window: int | None = None) -> Tensor:
        """Return the mask as (B, 1, S, S) scores to add: eager attention would add a bool mask as 0 and 1.

        Args:
            dtype: of the scores.
            window: of sliding attention; counted in `position_ids`, so that the rejected reply looks as far back into
                the prompt as the chosen one.
        """
        allowed = self.attention_mask
        if window is not None:
            distance = self.position_ids.unsqueeze(2) - self.position_ids.unsqueeze(1)
            allowed = allowed & (distance < window).unsqueeze(1)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
        return mask.masked_fill(~allowed, torch.finfo(dtype).min)


def pack_pairs(input_ids: Tensor, attention_mask: Tensor, prompt_lengths: Tensor, pad_id: int) -> PackedPairs:
    """Pack preference rows so that the model reads each prompt once.

    Idea: prefix sharing for paired preference optimization (arXiv 2410.20305). With P prompt and C reply tokens the
    arithmetic falls by 2(P + C) / (P + 2C).

    Args:
        input_ids: int64 (2B, T), first B rows prompt + chosen, last B rows prompt + rejected, right-padded.
        attention_mask: int64 (2B, T), 1 on real tokens.
        prompt_lengths: int64 (B,).
        pad_id: id to fill with; its states are never used.
    """
    lengths = attention_mask.sum(dim=1).long()
    chosen, rejected = lengths.chunk(2)
    size = int((chosen + rejected - prompt_lengths).max())
    steps = torch.arange(size, device=input_ids.device).unsqueeze(0)
    end, start = chosen.unsqueeze(1), prompt_lengths.unsqueeze(1)
    is_second = steps >= end
    # A token of the rejected reply stands where it would stand without the chosen reply before it.
    position_ids = torch.where(is_second, steps - end + start, steps)
    total = end + (rejected.unsqueeze(1) - start)
    is_real = steps < total
    first_ids, second_ids = input_ids.chunk(2)
    position_ids = position_ids.masked_fill(~is_real, 0)
    column = position_ids.clamp(max=input_ids.size(1) - 1)
    packed = torch.where(is_second, second_ids.gather(1, column), first_ids.gather(1, column))
    return PackedPairs(
        input_ids=packed.masked_fill(~is_real, pad_id),
        position_ids=position_ids,
        attention_mask=_pair_mask(steps, start, end, is_real),
        source=_sources(input_ids.size(1), prompt_lengths, chosen).clamp(max=size - 1),
    )


def _pair_mask(steps: Tensor, start: Tensor, end: Tensor, is_real: Tensor) -> Tensor:
    """Causal, real keys only, and no look from the rejected reply at the chosen one: (B, 1, S, S)."""
    query, key = steps.unsqueeze(2), steps.unsqueeze(1)
    in_chosen = (steps >= start) & (steps < end)
    hidden = (query >= end.unsqueeze(2)) & in_chosen.unsqueeze(1)
    allowed = (key <= query) & is_real.unsqueeze(1) & ~hidden
    # Padding attends to itself: a row without any key would give NaN.
    return (allowed | (query == key)).unsqueeze(1)


def _sources(num_columns: int, prompt_lengths: Tensor, chosen_lengths: Tensor) -> Tensor:
    """Packed position of every unpacked position: (2B, T); on padding anything."""
    columns = torch.arange(num_columns, device=prompt_lengths.device).unsqueeze(0)
    start, end = prompt_lengths.unsqueeze(1), chosen_lengths.unsqueeze(1)
    first = columns.expand(end.size(0), -1)
    second = torch.where(columns < start, columns, columns - start + end)
    return torch.cat([first, second])


def recurrent_layers(config: PreTrainedConfig) -> list[str]:
    """Return the kinds of a language model's layers that carry a state over positions, sorted; none in transformers.

    Args:
        config: the language model's.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is None and not hasattr(config, "num_attention_heads"):
        return [config.model_type]
    return sorted(set(kinds or ()) - _MASKED - _STATELESS)


def pair_masks(packed: PackedPairs, config: PreTrainedConfig, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Return the additive mask of packed pairs, by kind of layer where a language model has several.

    transformers takes a 4-D mask as it is, so a sliding window must already be in it.

    Args:
        packed: of `pack_pairs`.
        config: the language model's.
        dtype: of the scores.
    """
    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    if kinds == {"full_attention"} or window is None:
        return packed.additive_mask(dtype)
    if kinds <= {"sliding_attention"}:
        return packed.additive_mask(dtype, window)
    return {
        "full_attention": packed.additive_mask(dtype),
        "sliding_attention": packed.additive_mask(dtype, window),
    }


@torch.no_grad()
def prove_sharing(model: Any, batch: dict[str, Any]) -> str | None:
    """Let a model read pairs with shared prompts only if that gives what it gives for two rows each.

    Sets `model.shares_prompts`. Every layer must be of a kind that reads only what a mask shows it; then, on one batch,
    the log-probabilities must agree, and another chosen reply change nothing about the rejected one.

    Args:
        model: `EpoForConditionalGeneration`, in eval mode.
        batch: of `PairCollator`.

    Returns:
        Why prompts are not shared, None where they are.
    """
    config = model.config.text_config
    kinds = recurrent_layers(config)
    if kinds:
        reason: str | None = f"layers of kind {', '.join(kinds)} would carry the chosen reply over"
    elif "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        reason = "its attention looks at chunks of positions"
    else:
        reason = _difference(model, batch)
    model.shares_prompts = reason is None
    return reason


def _difference(model: Any, batch: dict[str, Any]) -> str | None:
    batch = dict(batch)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)

    def score(ids: Tensor, shares: bool) -> Tensor:
        model.shares_prompts = shares
        log_probs: Tensor = model(**batch | {"input_ids": ids}, labels=labels, fused_lm_head=True).log_probs
        return log_probs

    ids, half = batch["input_ids"], len(batch["prompt_lengths"])
    other = ids.clone()
    other[:half] = torch.where(labels[:half] != IGNORE, ids[:half] // 2, ids[:half])
    try:
        apart, shared, changed = score(ids, False), score(ids, True), score(other, True)
    except Exception as error:  # whatever an attention does with a mask it was not written for
        return f"its attention refuses the mask ({' '.join(str(error).split())[:120]})"
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    gap = (shared - apart).abs().max().item()
    if not gap <= tolerance * max(1.0, apart.abs().max().item()):
        return f"log-probabilities differ by {gap:.2g}"
    leak = (changed[half:] - shared[half:]).abs().max().item()
    return None if leak <= 0.1 * tolerance else f"the chosen reply reaches the rejected one ({leak:.2g})"

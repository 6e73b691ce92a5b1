"""Shared-prompt forward: chosen and rejected reply of a pair after one common prompt, read by the model once."""

from dataclasses import dataclass

import torch
from torch import Tensor


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

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """Return `attention_mask` as (B, 1, S, S) scores to add: eager attention would add a bool mask as 0 and 1."""
        mask = torch.zeros(self.attention_mask.shape, dtype=dtype, device=self.attention_mask.device)
        return mask.masked_fill(~self.attention_mask, torch.finfo(dtype).min)

    def unpack(self, hidden: Tensor) -> Tensor:
        """Return packed states (B, S, D) in the order of the unpacked rows (2B, T, D); padding repeats states."""
        index = self.source.unsqueeze(-1).expand(-1, -1, hidden.size(-1))
        return torch.cat([hidden, hidden]).gather(1, index)


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

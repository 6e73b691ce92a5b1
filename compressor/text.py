"""Rows of token ids become batches; what every stage that reads text shares."""

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORE = -100
"""Label of a position that no loss counts (torch's own convention)."""

PAD = 0
"""What our batches are padded with: an id that every embedding table has. No position that counts attends to it, so a
tokenizer needs no padding token, and one whose padding token lies beyond the model's table does no harm."""


class CompressorDataError(ValueError):
    """A text that cannot be trained on; the message says which and what to do."""


def pad_right(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Pad rows of ids on the right to the longest; int64 (B, T) with T at least 1."""
    length = max(1, *(len(row) for row in rows)) if rows else 1
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)


def pad_left(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Pad prompts on the left, as generation wants them: `input_ids` and `attention_mask`, int64 (B, T)."""
    length = max(1, *(len(row) for row in rows))
    ids = [[*[PAD] * (length - len(row)), *row] for row in rows]
    mask = [[*[0] * (length - len(row)), *[1] * len(row)] for row in rows]
    return {"input_ids": torch.tensor(ids, dtype=torch.long), "attention_mask": torch.tensor(mask, dtype=torch.long)}

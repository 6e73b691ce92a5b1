"""Shared-prompt forward: chosen and rejected reply of a pair after one common prompt, read by the model once."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedConfig

from compressor.text import IGNORE
from epo.model.attention_masks import FLEX, additive_mask, block_mask, seen_keys
from epo.model.packed_rows import Placement, balanced_rows, place_pairs

_MASKED = {"full_attention", "attention", "sliding_attention", "chunked_attention"}
_STATELESS = {"mlp", "moe"}
"""Kinds of layers, as configurations name them, that read only what a mask shows them, or one position at a time."""


@dataclass(frozen=True)
class PackedPairs:
    """B pairs, each `[prompt | chosen | rejected]` instead of two rows `[prompt | reply]`, in R rows of L tokens.

    Attributes:
        input_ids: int64 (B, S), right-padded, one pair a row: what is embedded, and then `laid`.
        position_ids: int64 (R, L); the rejected reply counts on from the prompt, as if the chosen were not there, and
            each pair from 0.
        last: int64 (R, L), the last token of the row that sees each: of a prompt the last one of its pair, of a reply
            its own last one, so that a pair sees no other one, and the rejected reply not the chosen one.
        row: int64 (2B, T), which row holds each position of the unpacked rows.
        source: int64 (2B, T), which column.
        placement: of pairs in rows, None where row b is pair b.
    """

    input_ids: Tensor
    position_ids: Tensor
    last: Tensor
    row: Tensor
    source: Tensor
    placement: Placement | None = None

    def laid(self, values: Tensor) -> Tensor:
        """Return (R, L, ...) of (B, S, ...), tokens where they stand in the rows; differentiable."""
        return values if self.placement is None else _laid(values, self.placement)

    @property
    def attention_mask(self) -> Tensor:
        """Which key each query sees, bool (R, 1, L, L)."""
        return seen_keys(self.sees, self.last)

    def sees(self, row: Tensor, query: Tensor, key: Tensor, window: int | None = None) -> Tensor:
        """Return whether a token sees another one, bool; padding sees itself, or its softmax would be over nothing.

        Args:
            row: int64, of any shape, as the next two, which columns of that row.
            query: the token that looks.
            key: the one looked at.
            window: of sliding attention; counted in `position_ids`, so that the rejected reply looks as far back into
                the prompt as the chosen one.
        """
        seen = (key <= query) & (query <= self.last[row, key])
        if window is None:
            return seen
        return seen & (self.position_ids[row, query] - self.position_ids[row, key] < window)


def pack_pairs(
    input_ids: Tensor, attention_mask: Tensor, prompt_lengths: Tensor, pad_id: int, tokens_per_row: int | None = None
) -> PackedPairs:
    """Pack preference rows so that the model reads each prompt once.

    Idea: prefix sharing for paired preference optimization (arXiv 2410.20305). With P prompt and C reply tokens the
    arithmetic falls by 2(P + C) / (P + 2C).

    Args:
        input_ids: int64 (2B, T), first B rows prompt + chosen, last B rows prompt + rejected, right-padded.
        attention_mask: int64 (2B, T), 1 on real tokens.
        prompt_lengths: int64 (B,).
        pad_id: id to fill with; its states are never used.
        tokens_per_row: lay several pairs in a row, in rows of at most so many tokens (`place_pairs`); None for one.
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
    packed = packed.masked_fill(~is_real, pad_id)
    last = torch.where((steps >= start) & ~is_second, end, total).clamp(max=size) - 1
    last = torch.where(is_real, last, steps)
    source = _sources(input_ids.size(1), prompt_lengths, chosen)
    if tokens_per_row is None:
        row = torch.arange(len(source), device=source.device).unsqueeze(1).expand_as(source) % len(packed)
        return PackedPairs(packed, position_ids, last, row, source.clamp(max=size - 1))
    return _in_rows(packed, position_ids, last, total.squeeze(1), source, tokens_per_row)


def pack(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, prompt_lengths: Tensor | None
) -> PackedPairs | None:
    """Pack a batch as a model was found to read it (`prove_sharing`, `prove_packing`); None for rows as they are.

    Args:
        model: its `shares_prompts` and `tokens_per_row` say how.
        input_ids: int64 (2B, T) of pairs, (B, T) of single replies.
        attention_mask: alike, 1 on real tokens.
        prompt_lengths: int64 (B,) of pairs, None of single replies.
    """
    if attention_mask is None:
        return None
    if prompt_lengths is not None and model.shares_prompts:
        return pack_pairs(input_ids, attention_mask, prompt_lengths, 0, model.tokens_per_row)
    if prompt_lengths is None and model.tokens_per_row is not None:
        return pack_replies(input_ids, attention_mask, model.tokens_per_row)
    return None


def pack_replies(input_ids: Tensor, attention_mask: Tensor, tokens_per_row: int) -> PackedPairs:
    """Pack rows of a prompt and one reply, each of which takes the place of a pair.

    Args:
        input_ids: int64 (B, T), right-padded.
        attention_mask: int64 (B, T), 1 on real tokens.
        tokens_per_row: of the rows to come, at most (`place_pairs`).
    """
    columns = torch.arange(input_ids.size(1), device=input_ids.device).expand_as(input_ids)
    lengths = attention_mask.sum(dim=1).long()
    last = (lengths - 1).unsqueeze(1).expand_as(columns)
    return _in_rows(input_ids, columns, last, lengths, columns, tokens_per_row)


def _in_rows(
    input_ids: Tensor, position_ids: Tensor, last: Tensor, lengths: Tensor, source: Tensor, tokens_per_row: int
) -> PackedPairs:
    """Lay pairs that have a row each, (B, S), in rows of several; `source`, (2B, T) or (B, T), counts in the former."""
    placement = place_pairs(lengths, input_ids.size(1), tokens_per_row)
    steps = torch.arange(placement.taken.size(1), device=input_ids.device)
    of_row = torch.arange(len(source), device=source.device).unsqueeze(1) % len(input_ids)
    return PackedPairs(
        input_ids,
        position_ids=_laid(position_ids, placement).masked_fill(~placement.is_real, 0),
        last=torch.where(placement.is_real, _laid(last + placement.offset.unsqueeze(1), placement), steps),
        row=placement.row[of_row].expand_as(source),
        source=(source + placement.offset[of_row]).clamp(max=len(steps) - 1),
        placement=placement,
    )


def _laid(values: Tensor, placement: Placement) -> Tensor:
    """Take (R, L, ...) from (B, S, ...)."""
    picked = values.flatten(0, 1).index_select(0, placement.taken.flatten())
    return picked.view(*placement.taken.shape, *values.shape[2:])


def _sources(num_columns: int, prompt_lengths: Tensor, chosen_lengths: Tensor) -> Tensor:
    """Column of every unpacked position in a row of its pair: (2B, T); on padding anything."""
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


Mask = Tensor | BlockMask


def pair_masks(packed: PackedPairs, config: PreTrainedConfig, dtype: torch.dtype) -> Mask | dict[str, Mask]:
    """Return the mask of packed pairs, by kind of layer where a language model has several.

    transformers takes a 4-D mask or a `BlockMask` as it is, so a sliding window must already be in it.

    Args:
        packed: of `pack_pairs`.
        config: the language model's own, which says what kind of attention it computes.
        dtype: of the scores.
    """

    def mask(window: int | None = None) -> Mask:
        sees = partial(packed.sees, window=window)
        is_flex = config._attn_implementation == FLEX
        return block_mask(sees, packed.last) if is_flex else additive_mask(sees, packed.last, dtype)

    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    if kinds == {"full_attention"} or window is None:
        return mask()
    if kinds <= {"sliding_attention"}:
        return mask(window)
    return {"full_attention": mask(), "sliding_attention": mask(window)}


@torch.no_grad()
def prove_sharing(model: Any, batch: dict[str, Any]) -> str | None:
    """Let a model read pairs with shared prompts only if that gives what it gives for two rows each.

    Sets `model.shares_prompts`, and one pair a row. Every layer must be of a kind that reads only what a mask shows it;
    then, on one batch, the log-probabilities must agree, and another chosen reply change nothing about the rejected
    one.

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
        is_chosen = torch.arange(len(batch["input_ids"])) < len(batch["prompt_lengths"])
        leak = "the chosen reply reaches the rejected one"
        reason = _difference(model, batch, (False, None), (True, None), is_chosen, leak)
    model.shares_prompts, model.tokens_per_row = reason is None, None
    return reason


@torch.no_grad()
def prove_packing(model: Any, batch: dict[str, Any], tokens_per_row: int) -> str | None:
    """Let a model read several pairs in a row only if that gives what it gives for a row each.

    Sets `model.tokens_per_row`. Tried on one batch whose pairs all lie in one row: the log-probabilities must agree,
    and other replies of the first pair change nothing about the others.

    Args:
        model: that shares prompts, as `prove_sharing` found; in eval mode.
        batch: of `PairCollator`.
        tokens_per_row: of the rows to come.

    Returns:
        Why pairs are not packed, None where they are.
    """
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    pairs = len(batch["prompt_lengths"])
    alone = [lengths[i] + lengths[pairs + i] - int(batch["prompt_lengths"][i]) for i in range(pairs)]
    first = balanced_rows(alone, sum(alone))[0][0]
    is_first = torch.arange(2 * pairs) % pairs == first
    leak = "a pair reaches the next one in its row"
    reason = _difference(model, batch, (True, None), (True, sum(alone)), is_first, leak)
    model.tokens_per_row = tokens_per_row if reason is None else None
    return reason


_Way = tuple[bool, int | None]
"""How pairs are read: whether prompts are shared, and the tokens of a row."""


def _difference(
    model: Any, batch: dict[str, Any], apart: _Way, joined: _Way, is_changed: Tensor, leak_name: str
) -> str | None:
    """Say how two ways of reading a batch differ, or that other replies in some of its rows reach the rest; or None."""
    batch = dict(batch)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
    is_changed = is_changed.to(labels.device)

    def score(ids: Tensor, way: _Way) -> Tensor:
        model.shares_prompts, model.tokens_per_row = way
        log_probs: Tensor = model(**batch | {"input_ids": ids}, labels=labels, fused_lm_head=True).log_probs
        return log_probs

    ids = batch["input_ids"]
    other = torch.where(is_changed.unsqueeze(1) & (labels != IGNORE), ids // 2, ids)
    try:
        plain, packed, changed = score(ids, apart), score(ids, joined), score(other, joined)
    except Exception as error:  # whatever an attention does with a mask it was not written for
        return f"its attention refuses the mask ({' '.join(str(error).split())[:120]})"
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    gap = (packed - plain).abs().max().item()
    if not gap <= tolerance * max(1.0, plain.abs().max().item()):
        return f"log-probabilities differ by {gap:.2g}"
    leak = (changed - packed)[~is_changed].abs().max().item() if not is_changed.all() else 0.0
    return None if leak <= 0.1 * tolerance else f"{leak_name} ({leak:.2g})"

"""Replies by a language model's own `generate()`, from embedded prompts; one by one where a batch would not agree."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig, PreTrainedModel

from epo.model.shared_prompt import recurrent_layers

Embed = Callable[[Tensor, Tensor], Tensor]
"""Ids (B, T) and the rows of the batch they are, (B,), to embeddings (B, T, D)."""


def generate(llm: PreTrainedModel, embed: Embed, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Tensor:
    """Answer a batch of prompts.

    Args:
        llm: a causal language model.
        embed: makes the embeddings of prompts and of what was said so far.
        input_ids: int64 (B, T), left-padded.
        attention_mask: int64 (B, T), 1 on real tokens.
        settings: of transformers' `generate()`, with `max_new_tokens` and `pad_token_id`.

    Returns:
        int64 (B, T + N), prompts and replies, right-padded.
    """
    rows = torch.arange(len(input_ids), device=input_ids.device)
    if _agree_in_a_batch(llm.config, attention_mask, settings["max_new_tokens"]):
        new = _generate(llm, embed, input_ids, rows, attention_mask, settings)
    else:
        replies = [
            _generate_alone(llm, embed, ids[mask.bool()].unsqueeze(0), row, settings)
            for ids, mask, row in zip(input_ids, attention_mask, rows.split(1), strict=True)
        ]
        new = pad_sequence(replies, batch_first=True, padding_value=settings["pad_token_id"])
    return torch.cat([input_ids, new], dim=1)


def _agree_in_a_batch(config: PreTrainedConfig, attention_mask: Tensor, max_new_tokens: int) -> bool:
    """Tell whether a row gets the same reply in this batch as alone.

    Not where padding goes through a recurrent state, nor where the longest row's length picks the rotary factors of
    all (longrope) and the others are on the other side of the switch.
    """
    lengths = attention_mask.sum(dim=1)
    if recurrent_layers(config) and bool((lengths != attention_mask.size(1)).any()):
        return False
    switch = _rotary_switch(config)
    return switch is None or bool((lengths + max_new_tokens <= switch).all()) or bool((lengths > switch).all())


def _rotary_switch(config: PreTrainedConfig) -> int | None:
    """Return the length beyond which longrope takes its long factors, None for other rotary embeddings."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    return rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)


def _generate_alone(llm: PreTrainedModel, embed: Embed, ids: Tensor, row: Tensor, settings: dict[str, Any]) -> Tensor:
    """Answer one prompt (1, T), in two parts where its reply crosses the rotary switch: (N,).

    Beyond the switch every position is read anew with the long factors, so a cache from before it is of no use.
    """
    switch, length, budget = _rotary_switch(llm.config), ids.size(1), settings["max_new_tokens"]
    until = budget if switch is None or length > switch else min(budget, switch + 1 - length)
    new = _generate(llm, embed, ids, row, torch.ones_like(ids), settings | {"max_new_tokens": until})[0]
    ends = settings.get("eos_token_id")
    ends = ids.new_tensor([] if ends is None else ends)
    if until == budget or len(new) < until or torch.isin(new[-1:], ends).any():
        return new
    ids = torch.cat([ids, new.unsqueeze(0)], dim=1)
    rest = settings | {"max_new_tokens": budget - until}
    return torch.cat([new, _generate(llm, embed, ids, row, torch.ones_like(ids), rest)[0]])


def _generate(
    llm: PreTrainedModel, embed: Embed, ids: Tensor, rows: Tensor, attention_mask: Tensor, settings: dict[str, Any]
) -> Tensor:
    """Return the new tokens of the language model's `generate()`, (B, N)."""
    return llm.generate(inputs_embeds=embed(ids, rows), attention_mask=attention_mask, **settings)

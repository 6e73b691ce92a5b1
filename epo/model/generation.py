"""Replies by a language model's own `generate()`, given embedded prompts; one by one where a batch would not agree."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig, PreTrainedModel

from epo.model.shared_prompt import recurrent_layers


def generate(
    llm: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, embeds: Tensor, **settings: Any
) -> Tensor:
    """Answer a batch of prompts.

    Args:
        llm: a causal language model.
        input_ids: int64 (B, T), left-padded, all below the vocabulary's size.
        attention_mask: int64 (B, T), 1 on real tokens.
        embeds: (B, T, D), what the model is to read for these ids.
        settings: of transformers' `generate()`, with `max_new_tokens` and `pad_token_id`.

    Returns:
        int64 (B, T + N), prompts and replies, right-padded.
    """
    if _agree_in_a_batch(llm.config, attention_mask, settings["max_new_tokens"]):
        return _generate(llm, input_ids, attention_mask, embeds, settings)
    replies = []
    for ids, mask, row in zip(input_ids, attention_mask.bool(), embeds, strict=True):
        alone = ids[mask].unsqueeze(0)
        found = _generate(llm, alone, torch.ones_like(alone), row[mask].unsqueeze(0), settings)
        replies.append(found[0, alone.size(1) :])
    new = pad_sequence(replies, batch_first=True, padding_value=settings["pad_token_id"])
    return torch.cat([input_ids, new], dim=1)


def _generate(
    llm: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, embeds: Tensor, settings: dict[str, Any]
) -> Tensor:
    """Run `generate()` on ids, the embeddings put in their place wherever the prompt is read.

    Not as `inputs_embeds`, which some families do not take here, and which would hide the length of the prompt from
    the rules that look at it.
    """
    length = input_ids.size(1)

    def put(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.cat([embeds, output[:, length:]], dim=1) if output.size(1) >= length else output

    hook = llm.get_input_embeddings().register_forward_hook(put)
    try:
        tokens: Tensor = llm.generate(input_ids=input_ids, attention_mask=attention_mask, **settings)
        return tokens
    finally:
        hook.remove()


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

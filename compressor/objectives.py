"""What a memory is trained for: to let a frozen language model rebuild a turn, and to give the next reply."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from compressor.data import IGNORE
from compressor.placeholders import embed_tokens, fill_placeholders


def reply_nll(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over examples of each example's weighted mean negative log-likelihood.

    Averaging inside an example first makes the loss of a batch the mean of its examples' losses, however they are
    spread over ranks and accumulation steps.

    Args:
        logits: (B, T, V).
        labels: int64 (B, T), `IGNORE` where nothing is to be learnt; position t is predicted from t - 1.
        weights: float32 (B, T), weight of each label; None weighs all alike.

    Returns:
        float32 scalar, in nats a token.
    """
    targets = labels[:, 1:]
    nll = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )
    weight = (targets != IGNORE).float() if weights is None else weights[:, 1:] * (targets != IGNORE)
    return ((nll * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-8)).mean()


def memory_nll(
    llm: PreTrainedModel, input_ids: Tensor, labels: Tensor, memory_id: int, vectors: Tensor, mask: Tensor
) -> Tensor:
    """Return the loss of a frozen language model that reads memories where the placeholders stand.

    Both objectives are this one: the next reply given all memories, or a turn's own words given its memory
    (reconstruction; arXiv 2412.17572 trains the compressor through a frozen language model).

    Args:
        llm: the frozen language model.
        input_ids: int64 (B, T), right-padded.
        labels: int64 (B, T).
        memory_id: id of the memory placeholder.
        vectors: (B, M, D) memories.
        mask: bool (B, M), which of them stand in this prompt.
    """
    embeds = embed_tokens(llm.get_input_embeddings(), input_ids, (memory_id,))
    embeds = fill_placeholders(embeds, input_ids, memory_id, vectors, mask)
    # Right padding under a causal mask cannot reach earlier positions, so no attention mask is needed.
    return reply_nll(llm(inputs_embeds=embeds, use_cache=False).logits, labels)


def turn_memory(vectors: Tensor, target_turn: Tensor, num_memory_tokens: int) -> tuple[Tensor, Tensor]:
    """Pick the k memories of one turn a dialogue: vectors (B, k, D) and an all-true mask (B, k).

    Args:
        vectors: (B, M, D).
        target_turn: int64 (B,), which turn.
        num_memory_tokens: k.
    """
    offsets = torch.arange(num_memory_tokens, device=vectors.device)
    positions = target_turn.unsqueeze(1) * num_memory_tokens + offsets
    picked = vectors.gather(1, positions.unsqueeze(-1).expand(-1, -1, vectors.size(-1)))
    return picked, torch.ones(positions.shape, dtype=torch.bool, device=vectors.device)

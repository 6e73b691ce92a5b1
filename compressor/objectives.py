"""What a memory is trained for: to let a frozen language model rebuild a turn, and to give the next reply."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from compressor.placeholders import embed_tokens, fill_placeholders
from compressor.text import IGNORE


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
    return mean_over_examples(token_nll(logits, labels), labels, weights)


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each label given the position before it.

    Args:
        logits: (B, T, V).
        labels: int64 (B, T), `IGNORE` where nothing is to be learnt.

    Returns:
        float32 (B, T - 1), in nats; 0 where nothing is to be learnt.
    """
    # Rows one below the other: softmax over the last of two dimensions is several times faster than over one between.
    targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    nll = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return nll.view(targets.shape)[:, :-1]


def mean_over_examples(nll: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average `token_nll` inside each example, then over examples; arguments as of `reply_nll`."""
    learnt = (labels[:, 1:] != IGNORE).float()
    weight = learnt if weights is None else weights[:, 1:] * learnt
    return ((nll * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-8)).mean()


def labelled_span(labels: Tensor) -> slice:
    """Return the columns that hold the labels of a batch and the positions that predict them.

    The language-model head is a good part of a small model's work: where a prompt is long and a reply short, only these
    columns need scores. Losses of `logits[:, span]` and `labels[:, span]` are those of the whole.

    Args:
        labels: int64 (B, T), `IGNORE` where nothing is to be learnt.
    """
    columns = (labels[:, 1:] != IGNORE).any(dim=0).nonzero()
    if len(columns) == 0:
        return slice(0, 1)
    return slice(int(columns[0]), int(columns[-1]) + 2)


def memory_logits(
    llm: PreTrainedModel, input_ids: Tensor, memory_id: int, vectors: Tensor, mask: Tensor, span: slice = slice(None)
) -> Tensor:
    """Return the scores of a frozen language model that reads memories where the placeholders stand.

    Args:
        llm: the frozen language model.
        input_ids: int64 (B, T), right-padded.
        memory_id: id of the memory placeholder.
        vectors: (B, M, D) memories.
        mask: bool (B, M), which of them stand in this prompt.
        span: the columns to score, as `labelled_span` finds them; all by default.

    Returns:
        (B, T, V), or as many columns as the span has.
    """
    embeds = embed_tokens(llm.get_input_embeddings(), input_ids, (memory_id,))
    embeds = fill_placeholders(embeds, input_ids, memory_id, vectors, mask)
    # Right padding under a causal mask cannot reach earlier positions, so no attention mask is needed.
    logits: Tensor = llm(inputs_embeds=embeds, use_cache=False, logits_to_keep=columns_of(span, input_ids)).logits
    return logits


def columns_of(span: slice, input_ids: Tensor) -> Tensor:
    """Return a span of the columns of `input_ids` (B, T) as indices, the form transformers' `logits_to_keep` takes."""
    return torch.arange(input_ids.size(1), device=input_ids.device)[span]


def distillation(logits: Tensor, labels: Tensor, teacher_logits: Tensor, teacher_labels: Tensor) -> Tensor:
    """KL divergence from the full-text reader to the memory reader: mean over examples of the mean over reply tokens.

    The teacher is the same frozen language model with the history written out. Where the history does not matter
    (which of many ways a reply opens) both agree at once, so the gradient is left to what the memory must tell.
    Our choice, after context distillation.

    Args:
        logits: (B, T, V) of the memory reader.
        labels: int64 (B, T), the same reply tokens in each row as `teacher_labels`, elsewhere `IGNORE`.
        teacher_logits: (B, T', V).
        teacher_labels: int64 (B, T').

    Returns:
        float32 scalar, in nats a token.
    """
    is_reply = labels[:, 1:] != IGNORE
    student = logits[:, :-1][is_reply].float().log_softmax(dim=-1)
    teacher = teacher_logits[:, :-1][teacher_labels[:, 1:] != IGNORE].float().log_softmax(dim=-1)
    divergence = functional.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=-1)
    share = 1 / (is_reply.sum(dim=1) * len(is_reply)).clamp(min=1)
    return (divergence * share.repeat_interleave(is_reply.sum(dim=1))).sum()


def turn_memory(vectors: Tensor, target_turn: Tensor, num_memory_tokens: int) -> tuple[Tensor, Tensor]:
    """Pick the k memories of one turn a dialogue: vectors (B, k, D) and an all-true mask (B, k).

    Args:
        vectors: (B, M, D).
        target_turn: int64 (B,), which turn.
        num_memory_tokens: k.
    """
    offsets = torch.arange(num_memory_tokens, device=vectors.device)
    positions = target_turn.unsqueeze(1) * num_memory_tokens + offsets
    positions = positions.clamp(max=vectors.size(1) - 1)  # a batch without any turn has a dummy in their place
    picked = vectors.gather(1, positions.unsqueeze(-1).expand(-1, -1, vectors.size(-1)))
    return picked, torch.ones(positions.shape, dtype=torch.bool, device=vectors.device)

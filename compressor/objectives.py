"""What a memory is trained for: to let a frozen language model rebuild a turn, and to give the next reply.

B examples, T tokens of a row (S of the teacher's), P = T - 1 of them predicted, R reply tokens of all rows, C columns
that are scored, N positions of all rows, V vocabulary, M memories, K of one turn, D width of the language model.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from compressor.placeholders import embed_tokens, fill_placeholders
from compressor.text import IGNORE


def reply_nll(logits_BTV: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """Mean over examples of each example's weighted mean negative log-likelihood.

    Averaging inside an example first makes the loss of a batch the mean of its examples' losses, however they are
    spread over ranks and accumulation steps.

    Args:
        logits_BTV: scores before softmax.
        labels_BT: int64, `IGNORE` where nothing is to be learnt; position t is predicted from t - 1.
        weights_BT: float32, weight of each label; None weighs all alike.

    Returns:
        float32 scalar, in nats a token.
    """
    return mean_over_examples(token_nll(logits_BTV, labels_BT), labels_BT, weights_BT)


def token_nll(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Negative log-likelihood of each label given the position before it.

    Args:
        logits_BTV: scores before softmax.
        labels_BT: int64, `IGNORE` where nothing is to be learnt.

    Returns:
        float32 (B, P), in nats; 0 where nothing is to be learnt.
    """
    # Rows one below the other: softmax over the last of two dimensions is several times faster than over one between.
    targets_BT = functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORE)
    nll_N = functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return nll_N.view(targets_BT.shape)[:, :-1]


def mean_over_examples(nll_BP: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """Average `token_nll` inside each example, then over examples; arguments as of `reply_nll`."""
    return mean_inside_examples(nll_BP, labels_BT, weights_BT).mean()


def mean_inside_examples(nll_BP: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """Average `token_nll` inside each example, float32 (B,); arguments as of `reply_nll`."""
    learnt_BP = (labels_BT[:, 1:] != IGNORE).float()
    weight_BP = learnt_BP if weights_BT is None else weights_BT[:, 1:] * learnt_BP
    return (nll_BP * weight_BP).sum(dim=1) / weight_BP.sum(dim=1).clamp(min=1e-8)


def labelled_span(labels_BT: Tensor) -> slice:
    """Return the columns that hold the labels of a batch and the positions that predict them.

    The language-model head is a good part of a small model's work: where a prompt is long and a reply short, only these
    columns need scores. Losses of `logits_BTV[:, span]` and `labels_BT[:, span]` are those of the whole.

    Args:
        labels_BT: int64, `IGNORE` where nothing is to be learnt.
    """
    columns = (labels_BT[:, 1:] != IGNORE).any(dim=0).nonzero()
    if len(columns) == 0:
        return slice(0, 1)
    return slice(int(columns[0]), int(columns[-1]) + 2)


def memory_logits(
    llm: PreTrainedModel,
    input_ids_BT: Tensor,
    memory_id: int,
    vectors_BMD: Tensor,
    mask_BM: Tensor,
    span: slice = slice(None),
) -> Tensor:
    """Return the scores of a frozen language model that reads memories where the placeholders stand.

    Args:
        llm: the frozen language model.
        input_ids_BT: int64, right-padded.
        memory_id: id of the memory placeholder.
        vectors_BMD: the memories.
        mask_BM: bool, which of them stand in this prompt.
        span: the columns to score, as `labelled_span` finds them; all by default.

    Returns:
        (B, C, V), as many columns as the span has.
    """
    embeds_BTD = memory_embeds(llm, input_ids_BT, memory_id, vectors_BMD, mask_BM)
    # Right padding under a causal mask cannot reach earlier positions, so no attention mask is needed.
    columns_C = columns_of(span, input_ids_BT)
    logits_BCV: Tensor = llm(inputs_embeds=embeds_BTD, use_cache=False, logits_to_keep=columns_C).logits
    return logits_BCV


def memory_embeds(
    llm: PreTrainedModel, input_ids_BT: Tensor, memory_id: int, vectors_BMD: Tensor, mask_BM: Tensor
) -> Tensor:
    """Return what a language model reads, (B, T, D): its own embeddings, and memories where the placeholders stand.

    Args: those of `memory_logits`.
    """
    embeds_BTD = embed_tokens(llm.get_input_embeddings(), input_ids_BT, (memory_id,))
    return fill_placeholders(embeds_BTD, input_ids_BT, memory_id, vectors_BMD, mask_BM)


def columns_of(span: slice, input_ids_BT: Tensor) -> Tensor:
    """Return a span of the columns as indices, the form that transformers' `logits_to_keep` takes."""
    return torch.arange(input_ids_BT.size(1), device=input_ids_BT.device)[span]


def distillation(
    logits_BTV: Tensor, labels_BT: Tensor, teacher_logits_BSV: Tensor, teacher_labels_BS: Tensor
) -> Tensor:
    """KL divergence from the full-text reader to the memory reader: mean over examples of the mean over reply tokens.

    The teacher is the same frozen language model with the history written out. Where the history does not matter
    (which of many ways a reply opens) both agree at once, so the gradient is left to what the memory must tell.
    Our choice, after context distillation.

    Args:
        logits_BTV: of the memory reader.
        labels_BT: int64, the same reply tokens in each row as `teacher_labels_BS`, elsewhere `IGNORE`.
        teacher_logits_BSV: of the full-text reader.
        teacher_labels_BS: int64.

    Returns:
        float32 scalar, in nats a token.
    """
    is_reply_BP = labels_BT[:, 1:] != IGNORE
    student_RV = logits_BTV[:, :-1][is_reply_BP].float().log_softmax(dim=-1)
    teacher_RV = teacher_logits_BSV[:, :-1][teacher_labels_BS[:, 1:] != IGNORE].float().log_softmax(dim=-1)
    divergence_R = functional.kl_div(student_RV, teacher_RV, log_target=True, reduction="none").sum(dim=-1)
    share_B = 1 / (is_reply_BP.sum(dim=1) * len(is_reply_BP)).clamp(min=1)
    return (divergence_R * share_B.repeat_interleave(is_reply_BP.sum(dim=1))).sum()


def turn_memory(vectors_BMD: Tensor, target_turn_B: Tensor, num_memory_tokens: int) -> tuple[Tensor, Tensor]:
    """Pick the k memories of one turn a dialogue: vectors (B, K, D) and an all-true mask (B, K).

    Args:
        vectors_BMD: all memories of each dialogue.
        target_turn_B: int64, which turn.
        num_memory_tokens: k.
    """
    offsets_K = torch.arange(num_memory_tokens, device=vectors_BMD.device)
    positions_BK = target_turn_B.unsqueeze(1) * num_memory_tokens + offsets_K
    # A batch without any turn has a dummy in their place.
    positions_BK = positions_BK.clamp(max=vectors_BMD.size(1) - 1)
    picked_BKD = vectors_BMD.gather(1, positions_BK.unsqueeze(-1).expand(-1, -1, vectors_BMD.size(-1)))
    return picked_BKD, torch.ones(positions_BK.shape, dtype=torch.bool, device=vectors_BMD.device)

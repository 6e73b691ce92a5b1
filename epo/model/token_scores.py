"""Scores of labelled tokens: what a preference loss and its metrics are made of."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers.utils import ModelOutput

from compressor.text import IGNORE


@dataclass
class TokenScores(ModelOutput):
    """Scores of labelled tokens under the names TRL reads, each (B, T - 1), 0 where there is no label.

    Attributes:
        log_probs: float32, of the label given what stands before it, in nats.
        entropy: float32, of the distribution the label is drawn from, in nats; without gradient.
        mean_logits: float32, mean score over the vocabulary; without gradient.
        is_top1: bool, whether the label is the likeliest token.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    mean_logits: Tensor | None = None
    is_top1: Tensor | None = None


def token_scores(logits: Tensor, targets: Tensor, places: Tensor) -> TokenScores:
    """Score tokens by the logits before them.

    Args:
        logits: float32 (N, V).
        targets: int64 (N,).
        places: (B, T - 1), true where the N tokens stand, row by row.
    """
    scores = score_rows(logits, targets)
    where = places.nonzero(as_tuple=True)

    def table(values: Tensor) -> Tensor:
        return values.new_zeros(places.shape).index_put(where, values)

    return TokenScores(*(table(values) for values in scores))


def score_rows(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-probability, entropy, mean score and whether it is the likeliest, (N,) each, of tokens one by one.

    Args:
        logits: float32 (N, V).
        targets: int64 (N,).
    """
    normaliser = logits.logsumexp(dim=-1)
    log_probs = logits.gather(1, targets.unsqueeze(1)).squeeze(1) - normaliser
    with torch.no_grad():
        entropy = normaliser - ((logits - normaliser.unsqueeze(1)).exp() * logits).sum(dim=-1)
        mean, is_top1 = logits.mean(dim=-1), logits.argmax(dim=-1) == targets
    return log_probs, entropy, mean, is_top1


def sequence_logps(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Sum the log-probability of each answer: the plain reference for `token_scores`.

    Args:
        logits_BTV: scores before softmax; reduced in float32.
        labels_BT: int64 ids, position t predicted from t - 1; IGNORE marks prompt, media and padding.

    Returns:
        float32 (B,), in nats.

    Raises:
        ValueError: a row has no answer token, or shapes disagree.

    Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7.
    """
    if logits_BTV.shape[:2] != labels_BT.shape:
        raise ValueError(f"logits are {tuple(logits_BTV.shape)}, labels {tuple(labels_BT.shape)}; want (B, T) alike")
    targets = labels_BT[:, 1:]
    empty = (targets == IGNORE).all(dim=1).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"rows {empty} have no answer token; a reply is empty or was cut away")
    scores = logits_BTV[:, :-1].float().transpose(1, 2)
    return -functional.cross_entropy(scores, targets, ignore_index=IGNORE, reduction="none").sum(dim=1)

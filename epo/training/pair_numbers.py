"""What is logged of a batch of pairs: rewards, margins, entropy, each a sum and a count, mostly under TRL's names."""

from typing import Any

import torch
from torch import Tensor

from epo.model.token_scores import TokenScores
from epo.training.objective import PairScores, implicit_reward


def pair_sums(
    scores: PairScores, outputs: TokenScores, inputs: dict[str, Any], beta: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return by name the sum and the count, float32 scalars, whose quotient over all ranks is the number to log.

    To TRL's numbers it adds `logps/chosen_shift`: by how many nats a token the chosen replies are likelier than under
    the reference.

    Args:
        scores: of the batch.
        outputs: the policy's, of all labelled tokens.
        inputs: the batch, of `PairCollator`.
        beta: of the loss.
    """
    assert outputs.entropy is not None and outputs.mean_logits is not None and outputs.is_top1 is not None
    mask = inputs["completion_mask"][:, 1:].bool()
    is_chosen, is_rejected = mask.chunk(2)
    chosen_logits, rejected_logits = outputs.mean_logits.chunk(2)
    chosen_reward, rejected_reward = scores.rewards(beta)
    return _of_other_clips(scores, beta) | {
        "entropy": _over(outputs.entropy[mask]),
        "logits/chosen": _over(chosen_logits[is_chosen]),
        "logits/rejected": _over(rejected_logits[is_rejected]),
        "mean_token_accuracy": _over(outputs.is_top1.chunk(2)[0][is_chosen]),
        "rewards/chosen": _over(chosen_reward),
        "rewards/rejected": _over(rejected_reward),
        "rewards/accuracies": _over(chosen_reward > rejected_reward),
        "rewards/margins": _over(chosen_reward - rejected_reward),
        "logps/chosen": _over(scores.chosen_logps),
        "logps/rejected": _over(scores.rejected_logps),
        "logps/chosen_shift": (
            (scores.chosen_logps - scores.reference_chosen_logps).detach().float().sum(),
            is_chosen.sum().float(),
        ),
    }


def _of_other_clips(scores: PairScores, beta: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Return how often and by how much the chosen replies have a higher reward under their own clip, where read."""
    if scores.other_logps is None or scores.reference_other_logps is None:
        return {}
    own, _ = scores.rewards(beta)
    margins = (own - implicit_reward(scores.other_logps, scores.reference_other_logps, beta))[scores.has_other]
    return {"conditional/accuracies": _over(margins > 0), "conditional/margins": _over(margins)}


def _over(values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.detach().float()
    return values.sum(), torch.tensor(float(values.numel()), device=values.device)


__all__ = ["pair_sums"]

"""The arithmetic of Emotional Preference Optimization, as pure functions of log-probabilities."""

from torch import Tensor
from torch.nn import functional

from compressor.text import IGNORE


def sequence_logps(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Sum the log-probability of each answer.

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


def implicit_reward(policy_logps: Tensor, reference_logps: Tensor, beta: float) -> Tensor:
    """Return beta log(pi / pi_ref) of each reply, (B,) (arXiv 2305.18290, section 5)."""
    return beta * (policy_logps - reference_logps)


def epo_loss(chosen_reward: Tensor, rejected_reward: Tensor, chosen_nll: Tensor, alpha: float) -> Tensor:
    """Return the EPO objective: -log sigma(margin) + alpha x NLL of the gold reply.

    The sigmoid term is DPO's (arXiv 2305.18290, eq. 7) on (gold, counter-emotional); the NLL term keeps the gold
    reply likely in itself (our choice; arXiv 2412.17572 publishes neither). TRL computes the same in training, as
    `EpoArguments` asks it to; this function is the reference it is tested against.

    Args:
        chosen_reward: (B,) implicit reward of the gold reply.
        rejected_reward: (B,) of the counter-emotional one.
        chosen_nll: scalar, nats a token: the mean over all tokens of the global batch's gold replies.
        alpha: weight of the NLL.
    """
    return -functional.logsigmoid(chosen_reward - rejected_reward).mean() + alpha * chosen_nll

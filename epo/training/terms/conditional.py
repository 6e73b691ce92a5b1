"""Term `conditional`: the gold reply likelier under its own clip than under another dialogue's."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from epo.training.objective import PairScores, Term, implicit_reward

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


def conditional_loss(own_rewards: Tensor, other_rewards: Tensor, has_other: Tensor) -> Tensor:
    """Return -log sigma(R(w | own clip) - R(w | other clip)), the mean over all pairs; one without another clip adds 0.

    So a pair weighs the same whatever batch it is in, and a global batch is the same however it is cut.

    Args:
        own_rewards: (B,), implicit rewards of the gold replies.
        other_rewards: (B,), of the same replies with another dialogue's clip in their prompts.
        has_other: bool (B,).

    Source: the conditional preference of mDPO (Wang et al. 2024, arXiv 2406.11839), which crops the image; another
    clip in its place as in the modality preferences of AVEm-DPO (arXiv 2602.07054); which clip is our choice.
    """
    losses = -functional.logsigmoid(own_rewards - other_rewards)
    return (losses * has_other).mean()


def _value(scores: PairScores, args: "EpoArguments") -> Tensor:
    compared = scores.as_compared(args)
    assert compared.other_logps is not None and compared.reference_other_logps is not None
    assert compared.has_other is not None
    own, _ = compared.rewards(args.beta)
    return conditional_loss(
        own, implicit_reward(compared.other_logps, compared.reference_other_logps, args.beta), compared.has_other
    )


TERM = Term(
    "the gold reply likelier under its own clip",
    _value,
    weight=lambda args: args.conditional_weight,
    needs_other=True,
)

__all__ = ["TERM", "conditional_loss"]

"""Term `anchor`: the gold reply's own reward above a line, so that it does not fall together with the other one's."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from epo.training.objective import PairScores, Term

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


def anchor_loss(rewards: Tensor, margin: float) -> Tensor:
    """Return -log sigma(R(w) - margin), the mean over pairs.

    Args:
        rewards: (B,), implicit rewards of the gold replies.
        margin: what the reward is to exceed; 0 says that the gold reply is to be likelier than under the reference.

    Source: the reward anchor of mDPO (Wang et al. 2024, arXiv 2406.11839).
    """
    return -functional.logsigmoid(rewards - margin).mean()


def _value(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, _ = scores.as_compared(args).rewards(args.beta)
    return anchor_loss(chosen, args.anchor_margin)


TERM = Term("the gold reply's reward above a line", _value, weight=lambda args: args.anchor_weight)

__all__ = ["TERM", "anchor_loss"]

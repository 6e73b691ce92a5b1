"""Term `preference`: the gold reply rather than the counter-emotional one, by a margin of implicit rewards."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from epo.training.objective import PairScores, Term
from epo.training.preference_losses import losses_of_pairs

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


def preference_loss(margins: Tensor) -> Tensor:
    """Return -log sigma(margin), the mean over pairs: what `preference_loss: sigmoid` is.

    Args:
        margins: (B,), implicit reward of the gold reply less that of the counter-emotional one.

    Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7, on (gold, counter-emotional).
    """
    return -functional.logsigmoid(margins).mean()


def _value(scores: PairScores, args: "EpoArguments") -> Tensor:
    return losses_of_pairs(scores, args).mean()


TERM = Term("the gold reply rather than the counter-emotional one", _value, weight=lambda args: 1.0)

__all__ = ["TERM", "preference_loss"]

"""Term `gold_nll`: the gold reply stays likely in itself, not only likelier than the other one."""

from typing import TYPE_CHECKING

from torch import Tensor

from epo.training.objective import PairScores, Term

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


def _value(scores: PairScores, args: "EpoArguments") -> Tensor:
    """Return nats a token, the mean over all gold tokens (our choice; arXiv 2412.17572 publishes no objective)."""
    return -scores.chosen_token_logps.mean()


TERM = Term("the gold reply likely in itself", _value, over="chosen tokens", weight=lambda args: args.alpha)

__all__ = ["TERM"]

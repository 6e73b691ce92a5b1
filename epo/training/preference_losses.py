"""What the preference term may be: TRL's losses by name, each a function of the log-probabilities of two replies.

With d = log p/q of the chosen reply less that of the rejected one, c and r either of them alone (p the policy, q the
reference), b `beta`, e `label_smoothing`, t `discopop_tau`, and m = b d less the offset of `emotion_margin`:

    sigmoid    -log sigmoid(m)                                              DPO, arXiv 2305.18290, eq. 7
    hinge      max(0, 1 - m)                                                SLiC, arXiv 2305.10425
    robust     (-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e)    robust DPO, arXiv 2403.00409
    exo_pair   KL((sigmoid(m), sigmoid(-m)) || (1 - e, e))                  EXO, arXiv 2402.00856, eq. 16
    discopop   (1 - s) (-log sigmoid(m)) + s exp(-m), s = sigmoid(m / t)    DiscoPOP, arXiv 2406.08414, eq. 5
    ipo        (d - 1 / (2 b))^2, c and r a token                           IPO, arXiv 2310.12036, eq. 17
    nca_pair   -log sigmoid(b c) - (log sigmoid(-b c) + log sigmoid(-b r)) / 2   NCA, arXiv 2402.05369
    bco_pair   -log sigmoid(b c) - log sigmoid(-b r)                        BCO, arXiv 2404.04656
    sppo_hard  (c - 1 / (2 b))^2 + (r + 1 / (2 b))^2                        SPPO, arXiv 2405.00675, eq. 4.7
    apo_zero   1 - sigmoid(b c) + sigmoid(b r)                              APO, arXiv 2408.06266, eq. 7
    apo_down   sigmoid(b c) + 1 - sigmoid(b d)                              APO, eq. 8
    aot        smoothed sigmoid of the sorted policy ratios less the sorted reference ratios   AOT, arXiv 2406.05882
    aot_unpaired   the same of the sorted c less the sorted r

TRL's `sigmoid_norm` is `sigmoid` with `length_normalised`, its `sft` the term `gold_nll`. The forms are those that TRL
computes, and tests hold them to its numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from epo.training.objective import PairScores

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


@dataclass(frozen=True)
class PreferenceLoss:
    """One of TRL's losses.

    Attributes:
        value: takes scores and settings to the loss of each pair, (B,).
        of: what it compares. The margin: a difference of rewards, from which an offset may be taken. Rewards: each
            reply's own. Batch: all pairs of a batch sorted, so that only a whole global batch gives its value.
        per_token: whether it always compares log-probabilities a token, whatever `length_normalised` says.
        reads: the settings it reads beside `beta`.
    """

    value: Callable[[PairScores, "EpoArguments"], Tensor]
    of: Literal["margin", "rewards", "batch"] = "margin"
    per_token: bool = False
    reads: tuple[str, ...] = ()


def offset_margins(scores: PairScores, args: "EpoArguments") -> Tensor:
    """Return by how much each margin of rewards exceeds what the emotional distance of the two labels asks for, (B,).

    With `emotion_margin` 0 it is the margin itself, bit for bit.

    Source: the offset is ODPO's (Amini et al. 2024, arXiv 2402.10571); that it is `emotion_margin` times the
    distance of the labels in the valence-arousal plane, in [0, 2.83], is our choice.
    """
    margins = scores.margins(args.beta)
    if args.emotion_margin == 0:
        return margins
    assert scores.emotion_distances is not None
    return margins - args.emotion_margin * scores.emotion_distances


def _ratios(scores: PairScores) -> tuple[Tensor, Tensor]:
    return scores.rewards(1.0)


def _sigmoid(scores: PairScores, args: "EpoArguments") -> Tensor:
    return -logsigmoid(offset_margins(scores, args))


def _hinge(scores: PairScores, args: "EpoArguments") -> Tensor:
    return torch.relu(1 - offset_margins(scores, args))


def _robust(scores: PairScores, args: "EpoArguments") -> Tensor:
    flipped = args.label_smoothing
    margins = offset_margins(scores, args)
    return (-(1 - flipped) * logsigmoid(margins) + flipped * logsigmoid(-margins)) / (1 - 2 * flipped)


def _exo_pair(scores: PairScores, args: "EpoArguments") -> Tensor:
    flipped, margins = args.label_smoothing, offset_margins(scores, args)
    kept = margins.sigmoid() * (logsigmoid(margins) - math.log(1 - flipped))
    return kept + (-margins).sigmoid() * (logsigmoid(-margins) - math.log(flipped))


def _discopop(scores: PairScores, args: "EpoArguments") -> Tensor:
    margins = offset_margins(scores, args)
    share = torch.sigmoid(margins / args.discopop_tau)
    return (1 - share) * -logsigmoid(margins) + share * torch.exp(-margins)


def _ipo(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = _ratios(scores)
    return (chosen - rejected - 1 / (2 * args.beta)) ** 2


def _nca_pair(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = scores.rewards(args.beta)
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def _bco_pair(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = scores.rewards(args.beta)
    return -logsigmoid(chosen) - logsigmoid(-rejected)


def _sppo_hard(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = _ratios(scores)
    return (chosen - 0.5 / args.beta) ** 2 + (rejected + 0.5 / args.beta) ** 2


def _apo_zero(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = scores.rewards(args.beta)
    return 1 - chosen.sigmoid() + rejected.sigmoid()


def _apo_down(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, _ = scores.rewards(args.beta)
    return chosen.sigmoid() + 1 - scores.margins(args.beta).sigmoid()


def _aot(scores: PairScores, args: "EpoArguments") -> Tensor:
    policy = (scores.chosen_logps - scores.rejected_logps).sort().values
    reference = (scores.reference_chosen_logps - scores.reference_rejected_logps).sort().values
    return _smoothed(args.beta * (policy - reference), args.label_smoothing)


def _aot_unpaired(scores: PairScores, args: "EpoArguments") -> Tensor:
    chosen, rejected = _ratios(scores)
    return _smoothed(args.beta * (chosen.sort().values - rejected.sort().values), args.label_smoothing)


def _smoothed(margins: Tensor, flipped: float) -> Tensor:
    return -logsigmoid(margins) * (1 - flipped) - logsigmoid(-margins) * flipped


LOSSES = {
    "sigmoid": PreferenceLoss(_sigmoid),
    "sigmoid_norm": PreferenceLoss(_sigmoid, per_token=True),
    "hinge": PreferenceLoss(_hinge),
    "robust": PreferenceLoss(_robust, reads=("label_smoothing",)),
    "exo_pair": PreferenceLoss(_exo_pair, reads=("label_smoothing",)),
    "discopop": PreferenceLoss(_discopop, reads=("discopop_tau",)),
    "ipo": PreferenceLoss(_ipo, of="rewards", per_token=True),
    "nca_pair": PreferenceLoss(_nca_pair, of="rewards"),
    "bco_pair": PreferenceLoss(_bco_pair, of="rewards"),
    "sppo_hard": PreferenceLoss(_sppo_hard, of="rewards"),
    "apo_zero": PreferenceLoss(_apo_zero, of="rewards"),
    "apo_down": PreferenceLoss(_apo_down, of="rewards"),
    "aot": PreferenceLoss(_aot, of="batch", reads=("label_smoothing",)),
    "aot_unpaired": PreferenceLoss(_aot_unpaired, of="batch", reads=("label_smoothing",)),
}
"""TRL's losses by TRL's names."""


def losses_of_pairs(scores: PairScores, args: "EpoArguments") -> Tensor:
    """Return the loss that `preference_loss` names of each pair, (B,); of sorted batches, of each place in order."""
    loss = LOSSES[args.preference_loss]
    compared = scores.per_token() if loss.per_token else scores.as_compared(args)
    return loss.value(compared, args)


__all__ = ["LOSSES", "PreferenceLoss", "losses_of_pairs", "offset_margins"]

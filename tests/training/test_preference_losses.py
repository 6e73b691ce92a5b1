"""TRL's losses worked by hand, the offset, length normalisation, the two terms at a weight, and their gradients."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from epo.training.objective import PairScores, needs_other, weights_of
from epo.training.preference_losses import LOSSES, losses_of_pairs
from epo.training.terms.anchor import TERM as ANCHOR
from epo.training.terms.conditional import TERM as CONDITIONAL

DEFAULTS = {
    "beta": 0.5, "alpha": 1.0, "preference_loss": "sigmoid", "label_smoothing": 0.0, "discopop_tau": 0.05,
    "length_normalised": False, "emotion_margin": 0.0, "conditional_weight": 0.0, "anchor_weight": 0.0,
    "anchor_margin": 0.0, "extra_terms": {},
}  # fmt: skip
LOGS = ("chosen_logps", "rejected_logps", "reference_chosen_logps", "reference_rejected_logps")


def asked(**changes):
    return SimpleNamespace(**(DEFAULTS | changes))


def s(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture
def scores():
    """Two pairs; log-ratios c = 4 and 0, r = 0 and 2; 2 and 4 tokens chosen, 1 and 2 rejected; with beta 0.5 margins
    2 and -1. Under another clip the chosen replies have log-ratios 1 and 3; the second pair has no other clip."""
    return PairScores(
        chosen_logps=torch.tensor([-2.0, -5.0]),
        rejected_logps=torch.tensor([-7.0, -1.0]),
        reference_chosen_logps=torch.tensor([-6.0, -5.0]),
        reference_rejected_logps=torch.tensor([-7.0, -3.0]),
        chosen_token_logps=torch.tensor([-1.0, -5.0, -3.0]),
        chosen_lengths=torch.tensor([2, 4]),
        rejected_lengths=torch.tensor([1, 2]),
        emotion_distances=torch.tensor([2.0, 0.5]),
        other_logps=torch.tensor([-5.0, -2.0]),
        reference_other_logps=torch.tensor([-6.0, -5.0]),
        has_other=torch.tensor([True, False]),
    )


BY_HAND = {
    # of margins 2 and -1
    "sigmoid": [-math.log(s(2)), -math.log(s(-1))],
    "hinge": [0.0, 2.0],
    "robust": [
        (-0.9 * math.log(s(2)) + 0.1 * math.log(s(-2))) / 0.8,
        (-0.9 * math.log(s(-1)) + 0.1 * math.log(s(1))) / 0.8,
    ],
    "exo_pair": [
        s(2) * math.log(s(2) / 0.9) + s(-2) * math.log(s(-2) / 0.1),
        s(-1) * math.log(s(-1) / 0.9) + s(1) * math.log(s(1) / 0.1),
    ],
    "discopop": [
        (1 - s(4)) * -math.log(s(2)) + s(4) * math.exp(-2),
        (1 - s(-2)) * -math.log(s(-1)) + s(-2) * math.exp(1),
    ],
    # of ratios a token: 2 - 0 - 1 and 0 - 1 - 1, squared
    "ipo": [1.0, 4.0],
    # a token the margins are 0.5 (2 - 0) and 0.5 (0 - 1)
    "sigmoid_norm": [-math.log(s(1)), -math.log(s(-0.5))],
    # of rewards 2, 0 (chosen) and 0, 1 (rejected)
    "nca_pair": [
        -math.log(s(2)) - 0.5 * math.log(s(-2)) - 0.5 * math.log(0.5),
        -math.log(0.5) - 0.5 * math.log(0.5) - 0.5 * math.log(s(-1)),
    ],
    "bco_pair": [-math.log(s(2)) - math.log(0.5), -math.log(0.5) - math.log(s(-1))],
    "sppo_hard": [(4 - 1) ** 2 + (0 + 1) ** 2, (0 - 1) ** 2 + (2 + 1) ** 2],
    "apo_zero": [1 - s(2) + 0.5, 1 - 0.5 + s(1)],
    "apo_down": [s(2) + 1 - s(2), 0.5 + 1 - s(-1)],
    # policy ratios 5, -4 sorted -4, 5; reference ratios 1, -2 sorted -2, 1: margins 0.5 (-2) and 0.5 (4)
    "aot": [-0.9 * math.log(s(m)) - 0.1 * math.log(s(-m)) for m in (-1, 2)],
    # chosen 0, 4 and rejected 0, 2 sorted: margins 0 and 1
    "aot_unpaired": [-0.9 * math.log(s(m)) - 0.1 * math.log(s(-m)) for m in (0, 1)],
}


def settings_of(name, **changes):
    smooths = "label_smoothing" in LOSSES[name].reads
    return asked(preference_loss=name, label_smoothing=0.1 if smooths else 0.0, discopop_tau=0.5, **changes)


def test_every_loss_is_worked_out():
    assert BY_HAND.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_hand(scores, name):
    assert losses_of_pairs(scores, settings_of(name)).tolist() == pytest.approx(BY_HAND[name], rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(scores, name):
    """Against finite differences, in double precision; hinge away from its corner."""
    whole = replace(scores, **{n: getattr(scores, n).double() for n in LOGS})

    def value(chosen, rejected):
        return losses_of_pairs(replace(whole, chosen_logps=chosen, rejected_logps=rejected), settings_of(name))

    assert torch.autograd.gradcheck(value, [getattr(whole, n).requires_grad_(True) for n in LOGS[:2]])


def test_the_offset_grows_with_the_distance_of_the_labels(scores):
    """0.8 x (2, 0.5) = 1.6 and 0.4 off the margins: 0.4 and -1.4."""
    found = losses_of_pairs(scores, asked(emotion_margin=0.8))
    assert found.tolist() == pytest.approx([-math.log(s(0.4)), -math.log(s(-1.4))], rel=1e-5)
    hinge = losses_of_pairs(scores, asked(emotion_margin=0.8, preference_loss="hinge"))
    assert hinge.tolist() == pytest.approx([0.6, 2.4])


def test_without_an_offset_the_loss_is_bit_for_bit_that_of_the_margin():
    torch.manual_seed(0)
    logps = torch.randn(4, 50) * 30
    scores = PairScores(*logps, chosen_token_logps=logps[0])
    plain = -torch.nn.functional.logsigmoid(0.3 * ((logps[0] - logps[2]) - (logps[1] - logps[3])))
    assert losses_of_pairs(scores, asked(beta=0.3)).equal(plain)


def test_the_gradient_of_an_offset_margin_is_that_of_the_offset_sigmoid(scores):
    """-beta sigma(-(0.5 x 4 - 1.6)) of the first pair's chosen reply."""
    chosen = scores.chosen_logps.requires_grad_(True)
    losses_of_pairs(scores, asked(emotion_margin=0.8))[0].backward()
    assert chosen.grad.tolist() == pytest.approx([-0.5 * s(-0.4), 0.0], rel=1e-5)


def test_length_normalised_compares_log_probabilities_a_token(scores):
    """(2, 0) chosen and (0, 1) rejected a token: margins 1 and -0.5 with beta 0.5; SimPO's and TRL's `sigmoid_norm`."""
    found = losses_of_pairs(scores, asked(length_normalised=True))
    assert found.tolist() == pytest.approx([-math.log(s(1)), -math.log(s(-0.5))], rel=1e-5)
    assert found.equal(losses_of_pairs(scores, asked(preference_loss="sigmoid_norm")))


def test_a_reply_twice_as_long_has_the_same_rewards_a_token(scores):
    doubled = {name: 2 * getattr(scores, name) for name in (*LOGS, "chosen_lengths", "rejected_lengths")}
    asks = asked(length_normalised=True)
    assert losses_of_pairs(replace(scores, **doubled), asks).equal(losses_of_pairs(scores, asks))


def test_the_conditional_term_by_hand(scores):
    """The first pair: 0.5 x (4 - 1) = 1.5; the second has no other clip and adds 0: the mean over both."""
    assert CONDITIONAL.value(scores, asked()).item() == pytest.approx(-math.log(s(1.5)) / 2, rel=1e-5)
    a_token = CONDITIONAL.value(scores, asked(length_normalised=True)).item()
    assert a_token == pytest.approx(-math.log(s(0.75)) / 2, rel=1e-5)
    unknown = replace(scores, has_other=torch.tensor([False, False]))
    assert CONDITIONAL.value(unknown, asked()).item() == 0.0


def test_policy_equal_to_reference_costs_ln_2_under_any_clip(scores):
    same = replace(scores, chosen_logps=scores.reference_chosen_logps, other_logps=scores.reference_other_logps)
    both = replace(same, has_other=torch.tensor([True, True]))
    assert CONDITIONAL.value(both, asked()).item() == pytest.approx(math.log(2))


def test_the_anchor_by_hand(scores):
    """Rewards 2 and 0; above 0.5: 1.5 and -0.5."""
    assert ANCHOR.value(scores, asked()).item() == pytest.approx((-math.log(s(2)) + math.log(2)) / 2, rel=1e-5)
    above = (-math.log(s(1.5)) - math.log(s(-0.5))) / 2
    assert ANCHOR.value(scores, asked(anchor_margin=0.5)).item() == pytest.approx(above, rel=1e-5)


@pytest.mark.parametrize("term", [CONDITIONAL, ANCHOR])
def test_gradients_of_the_terms_at_a_weight(scores, term):
    names = ("chosen_logps", "other_logps")
    whole = replace(scores, **{n: getattr(scores, n).double() for n in (*LOGS, *names, "reference_other_logps")})

    def value(chosen, other):
        return term.value(replace(whole, chosen_logps=chosen, other_logps=other), asked(anchor_margin=0.3))

    assert torch.autograd.gradcheck(value, [getattr(whole, n).requires_grad_(True) for n in names])


def test_the_terms_at_a_weight_are_off_by_default_and_at_0():
    assert weights_of(asked()) == {"preference": 1.0, "gold_nll": 1.0}
    assert not needs_other(asked(anchor_weight=1.0)) and needs_other(asked(conditional_weight=0.1))
    weights = weights_of(asked(alpha=0.0, conditional_weight=0.3, anchor_weight=0.2))
    assert weights == {"preference": 1.0, "gold_nll": 0.0, "conditional": 0.3, "anchor": 0.2}


def test_the_losses_stay_finite_at_the_ends():
    far = torch.tensor([1e4, -1e4])
    scores = PairScores(far, -far, far * 0, far * 0, far, torch.tensor([1, 1]), torch.tensor([1, 1]))
    for name in LOSSES.keys() - {"discopop"}:  # whose e to the -m is meant to grow
        assert losses_of_pairs(scores, settings_of(name)).isfinite().all(), name

"""The loss of EPO worked by hand."""

import math

import pytest
import torch

from compressor.text import IGNORE
from epo.training.losses import epo_loss, implicit_reward, sequence_logps

ZERO = torch.tensor(0.0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_log_probabilities_of_the_answer_are_summed():
    """p = 1/2 then 1/4 are labelled: ln(1/2) + ln(1/4) = -3 ln 2; the second row's one label has p = 3/4."""
    logits = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]] * 2).log()
    labels = torch.tensor([[IGNORE, 0, 0], [IGNORE, IGNORE, 1]])
    wanted = torch.tensor([-3 * math.log(2), math.log(0.75)])
    torch.testing.assert_close(sequence_logps(logits, labels), wanted)


def test_scores_are_reduced_in_float32():
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 400, 50).bfloat16(), torch.randint(0, 50, (1, 400))
    exact = sequence_logps(logits.double(), labels)
    assert sequence_logps(logits, labels).item() == pytest.approx(exact.item(), rel=1e-5)


def test_an_empty_answer_is_refused():
    labels = torch.tensor([[IGNORE, 1], [1, IGNORE]])  # the first position is predicted from nothing
    with pytest.raises(ValueError, match=r"rows \[1\] have no answer token; a reply is empty or was cut away"):
        sequence_logps(torch.zeros(2, 2, 3), labels)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"logits are \(1, 2, 3\), labels \(1, 4\)"):
        sequence_logps(torch.zeros(1, 2, 3), torch.zeros(1, 4, dtype=torch.long))


def test_policy_equal_to_reference_costs_ln_2():
    logps = torch.tensor([-3.0, -40.0])
    reward = implicit_reward(logps, logps, beta=0.3)
    assert epo_loss(reward, reward, ZERO, alpha=1.0).item() == pytest.approx(math.log(2))


def test_reward_is_the_scaled_log_ratio():
    """beta (log pi - log pi_ref) = 0.5 (-2 - (-6)) = 2."""
    assert implicit_reward(torch.tensor([-2.0]), torch.tensor([-6.0]), beta=0.5).item() == 2.0


@pytest.mark.parametrize("margin", [-2.0, 0.5, 3.0])
def test_swapping_the_pair_changes_the_loss_by_the_margin(margin):
    """-log sigma(-m) + log sigma(m) = m."""
    chosen, rejected = torch.tensor([1.0 + margin]), torch.tensor([1.0])
    swap = epo_loss(rejected, chosen, ZERO, 0.0) - epo_loss(chosen, rejected, ZERO, 0.0)
    assert swap.item() == pytest.approx(margin, abs=1e-6)


@pytest.mark.parametrize("gap", [-4.0, 0.0, 2.5])
def test_the_gradient_is_minus_beta_sigma_of_minus_beta_margin(gap):
    beta = 0.3
    logps = torch.tensor([gap], requires_grad=True)
    reference = torch.zeros(1)
    epo_loss(implicit_reward(logps, reference, beta), reference, ZERO, 0.0).backward()
    assert logps.grad.item() == pytest.approx(-beta * sigmoid(-beta * gap), rel=1e-5)


def test_the_nll_of_the_gold_reply_is_added_with_its_weight():
    """Margins 2 and -1: mean of 0.1269 and 1.3133 is 0.7201; plus 0.2 x 3."""
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    preference = (-math.log(sigmoid(2)) - math.log(sigmoid(-1))) / 2
    assert preference == pytest.approx(0.7201, abs=1e-4)
    assert epo_loss(chosen, rejected, torch.tensor(3.0), alpha=0.2).item() == pytest.approx(preference + 0.6, rel=1e-6)


def test_the_loss_stays_finite_at_the_ends():
    far = torch.tensor([1e4])
    assert epo_loss(far, -far, ZERO, 0.0).item() == pytest.approx(0.0)
    assert epo_loss(-far, far, ZERO, 0.0).item() == pytest.approx(2e4)

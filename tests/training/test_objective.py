"""The objective of EPO worked by hand, term by term and as their sum."""

import math

import pytest
import torch

from compressor.text import IGNORE
from epo.model.token_scores import sequence_logps
from epo.training.arguments import EpoArguments
from epo.training.objective import TERMS, PairScores, Term, implicit_reward, objective
from epo.training.terms.preference import preference_loss


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
    assert preference_loss(reward - reward).item() == pytest.approx(math.log(2))


def test_reward_is_the_scaled_log_ratio():
    """beta (log pi - log pi_ref) = 0.5 (-2 - (-6)) = 2."""
    assert implicit_reward(torch.tensor([-2.0]), torch.tensor([-6.0]), beta=0.5).item() == 2.0


@pytest.mark.parametrize("margin", [-2.0, 0.5, 3.0])
def test_swapping_the_pair_changes_the_loss_by_the_margin(margin):
    """-log sigma(-m) + log sigma(m) = m."""
    chosen, rejected = torch.tensor([1.0 + margin]), torch.tensor([1.0])
    swap = preference_loss(rejected - chosen) - preference_loss(chosen - rejected)
    assert swap.item() == pytest.approx(margin, abs=1e-6)


@pytest.mark.parametrize("gap", [-4.0, 0.0, 2.5])
def test_the_gradient_is_minus_beta_sigma_of_minus_beta_margin(gap):
    beta = 0.3
    logps = torch.tensor([gap], requires_grad=True)
    reference = torch.zeros(1)
    preference_loss(implicit_reward(logps, reference, beta) - reference).backward()
    assert logps.grad.item() == pytest.approx(-beta * sigmoid(-beta * gap), rel=1e-5)


@pytest.fixture
def scores():
    """Two pairs of log-ratios 4, 0 (chosen) and 0, 2 (rejected): with beta 0.5 margins 2 and -1; NLL 3 a token."""
    return PairScores(
        chosen_logps=torch.tensor([-2.0, -5.0]),
        rejected_logps=torch.tensor([-7.0, -1.0]),
        reference_chosen_logps=torch.tensor([-6.0, -5.0]),
        reference_rejected_logps=torch.tensor([-7.0, -3.0]),
        chosen_token_logps=torch.tensor([-1.0, -5.0, -3.0]),
    )


def test_the_objective_is_the_sum_of_its_terms(scores, tmp_path):
    """Margins 2 and -1: mean of 0.1269 and 1.3133 is 0.7201; plus 0.2 x 3."""
    args = EpoArguments(output_dir=str(tmp_path), beta=0.5, alpha=0.2, use_cpu=True, bf16=False)
    preference = (-math.log(sigmoid(2)) - math.log(sigmoid(-1))) / 2
    assert preference == pytest.approx(0.7201, abs=1e-4)
    loss, terms = objective(scores, args)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {"preference": preference, "gold_nll": 3.0}
    )
    assert loss.item() == pytest.approx(preference + 0.6, rel=1e-6)
    assert [reward.tolist() for reward in scores.rewards(0.5)] == [[2.0, 0.0], [0.0, 1.0]]


def test_terms_over_tokens_are_weighted_by_the_batchs_share_of_them(scores, tmp_path):
    """3 of the step's 12 gold tokens, in one of two batches: 0.2 x 2 x 3 / 12 = 0.1 times the mean of 3."""
    args = EpoArguments(output_dir=str(tmp_path), beta=0.5, alpha=0.2, use_cpu=True, bf16=False)
    whole, terms = objective(scores, args, lambda weight: weight * 2 * 3 / 12)
    assert whole.item() == pytest.approx(terms["preference"].item() + 0.3, rel=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"preferense": 1.0}, "no term is called 'preferense'; the nearest is 'preference'"),
        ({"gold_nll": 1.0}, "extra_terms: gold_nll is EPO's own term; its weight is 1, or alpha: leave it out here"),
        ("gold_nll", "extra_terms is 'gold_nll', want a mapping of terms to their weights"),
        ({"brevity": math.nan}, "extra_terms: the weight of brevity is nan, want a finite number"),
    ],
)
def test_terms_that_make_no_objective_are_refused(tmp_path, extra, message):
    TERMS.register("brevity", Term("few nats", lambda scores, args: -scores.chosen_logps.mean()))
    try:
        with pytest.raises(ValueError, match=message):
            EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, extra_terms=extra)
    finally:
        TERMS.forget("brevity")


def test_the_loss_stays_finite_at_the_ends():
    far = torch.tensor([1e4])
    assert preference_loss(far + far).item() == pytest.approx(0.0)
    assert preference_loss(-far - far).item() == pytest.approx(2e4)

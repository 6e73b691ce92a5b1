"""The objective of EPO: named terms of what policy and reference make of pairs, and one weighted sum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from epo.registry import Registry, modules_of

if TYPE_CHECKING:
    from epo.training.arguments import EpoArguments


@dataclass(frozen=True)
class PairScores:
    """What policy and reference make of a batch of B pairs.

    Attributes:
        chosen_logps: float32 (B,), log-probability of each chosen reply under the policy, in nats.
        rejected_logps: of each rejected one.
        reference_chosen_logps: of each chosen reply under the reference; without gradient.
        reference_rejected_logps: of each rejected one.
        chosen_token_logps: float32 (N,), of every token of the chosen replies under the policy.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    reference_chosen_logps: Tensor
    reference_rejected_logps: Tensor
    chosen_token_logps: Tensor

    def rewards(self, beta: float) -> tuple[Tensor, Tensor]:
        """Return the implicit rewards of chosen and of rejected replies, (B,) each."""
        return (
            implicit_reward(self.chosen_logps, self.reference_chosen_logps, beta),
            implicit_reward(self.rejected_logps, self.reference_rejected_logps, beta),
        )

    def margins(self, beta: float) -> Tensor:
        """Return by how much the chosen replies' rewards exceed the rejected ones', (B,).

        Differences of log-probabilities are taken before beta, as TRL takes them.
        """
        chosen = self.chosen_logps - self.reference_chosen_logps
        return beta * (chosen - (self.rejected_logps - self.reference_rejected_logps))


def implicit_reward(policy_logps: Tensor, reference_logps: Tensor, beta: float) -> Tensor:
    """Return beta log(pi / pi_ref) of each reply, (B,) (arXiv 2305.18290, section 5)."""
    return beta * (policy_logps - reference_logps)


@dataclass(frozen=True)
class Term:
    """One term of the objective; a module of `epo.training.terms` offers one as `TERM`.

    Attributes:
        about: what it asks for, in one line.
        value: takes the scores and the settings to a scalar, a mean.
        over: what the mean is over. Of pairs every batch has as many. Of chosen tokens batches have more and fewer, so
            the trainer weighs each batch's mean by its share of the global batch's tokens.
        weight: of a term that is always there, out of the settings; None for one that a run names in `extra_terms`.
    """

    about: str
    value: Callable[[PairScores, "EpoArguments"], Tensor]
    over: Literal["pairs", "chosen tokens"] = "pairs"
    weight: "Callable[[EpoArguments], float] | None" = None


TERMS: Registry[Term] = Registry("term", "epo.objective_terms", lambda: modules_of("epo.training.terms", "TERM"))
"""Terms by name: EPO's own two are always there, others where `extra_terms` gives them a weight."""


def weights_of(args: "EpoArguments") -> dict[str, float]:
    """Return the weight of each term of the objective, EPO's own terms first.

    Raises:
        UnknownNameError: there is no term of a name in `extra_terms`.
    """
    own = {name: TERMS.get(name) for name in ("preference", "gold_nll")}
    weights = {name: term.weight(args) for name, term in own.items() if term.weight is not None}
    return weights | {name: float(weight) for name, weight in args.extra_terms.items()}


def objective(
    scores: PairScores, args: "EpoArguments", weigh_tokens: Callable[[float], Any] = float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss, the weighted sum of all terms, and the terms themselves, scalars without gradient.

    Args:
        scores: of a batch.
        args: say beta, the weights and which terms there are.
        weigh_tokens: takes the weight of a term over chosen tokens to that of this batch's mean; see `Term.over`.
    """
    loss: Tensor | float = 0.0
    terms: dict[str, Tensor] = {}
    for name, weight in weights_of(args).items():
        term = TERMS.get(name)
        value = term.value(scores, args)
        terms[name] = value.detach()
        loss = loss + value * (weight if term.over == "pairs" else weigh_tokens(weight))
    assert isinstance(loss, Tensor)  # EPO's own terms are always there
    return loss, terms


__all__ = ["TERMS", "PairScores", "Term", "implicit_reward", "objective", "weights_of"]

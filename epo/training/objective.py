"""The objective of EPO: named terms of what policy and reference make of pairs, and one weighted sum."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
        chosen_lengths: int64 (B,), tokens of each chosen reply, label and end of turn included; None where not told.
        rejected_lengths: of each rejected one.
        emotion_distances: float32 (B,), of the two labels in the valence-arousal plane; None where not told.
        other_logps: float32 (B,), of each chosen reply where another dialogue's clip stands in the prompt, under the
            policy; None where no term asks for it.
        reference_other_logps: the same under the reference.
        has_other: bool (B,), whether there was another clip for the pair; where not, the prompt is its own.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    reference_chosen_logps: Tensor
    reference_rejected_logps: Tensor
    chosen_token_logps: Tensor
    chosen_lengths: Tensor | None = None
    rejected_lengths: Tensor | None = None
    emotion_distances: Tensor | None = None
    other_logps: Tensor | None = None
    reference_other_logps: Tensor | None = None
    has_other: Tensor | None = None

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

    def per_token(self) -> "PairScores":
        """Return the same scores with each reply's log-probability divided by its number of tokens."""
        assert self.chosen_lengths is not None and self.rejected_lengths is not None
        of_chosen = ("chosen_logps", "reference_chosen_logps", "other_logps", "reference_other_logps")
        of_rejected = ("rejected_logps", "reference_rejected_logps")
        given = {name: (getattr(self, name), self.chosen_lengths) for name in of_chosen}
        given |= {name: (getattr(self, name), self.rejected_lengths) for name in of_rejected}
        return replace(self, **{name: sums / lengths for name, (sums, lengths) in given.items() if sums is not None})

    def as_compared(self, args: "EpoArguments") -> "PairScores":
        """Return the scores that rewards are made of: of whole replies, or a token where `length_normalised` says."""
        return self.per_token() if args.length_normalised else self


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
        weight: of a term of EPO's own, out of the settings; None for one that a run names in `extra_terms`.
        needs_other: whether it asks how likely the chosen replies are under another dialogue's clip.
    """

    about: str
    value: Callable[[PairScores, "EpoArguments"], Tensor]
    over: Literal["pairs", "chosen tokens"] = "pairs"
    weight: "Callable[[EpoArguments], float] | None" = None
    needs_other: bool = False


TERMS: Registry[Term] = Registry("term", "epo.objective_terms", lambda: modules_of("epo.training.terms", "TERM"))
"""Terms by name: EPO's own, of which the last two have weight 0 unless a run says otherwise, and `extra_terms`."""

_ALWAYS = ("preference", "gold_nll")
_AT_A_WEIGHT = ("conditional", "anchor")


def weights_of(args: "EpoArguments") -> dict[str, float]:
    """Return the weight of each term of the objective, EPO's own terms first; those at weight 0 are not there.

    The preference and the gold reply's NLL always are, so that both are logged.

    Raises:
        UnknownNameError: there is no term of a name in `extra_terms`.
    """
    own = {name: TERMS.get(name) for name in _ALWAYS + _AT_A_WEIGHT}
    weights = {name: term.weight(args) for name, term in own.items() if term.weight is not None}
    weights = {name: weight for name, weight in weights.items() if name in _ALWAYS or weight != 0}
    return weights | {name: float(weight) for name, weight in args.extra_terms.items()}


def needs_other(args: "EpoArguments") -> bool:
    """Tell whether some term of the objective asks for another clip; else nothing is read twice."""
    return any(TERMS.get(name).needs_other for name in weights_of(args))


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


__all__ = ["TERMS", "PairScores", "Term", "implicit_reward", "needs_other", "objective", "weights_of"]

"""Gold NLL: how unlikely a model finds the gold replies themselves; what preference training may cost."""

from typing import Any

from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values
from epo.evaluation.variants import can_vary
from epo.ranks import gather_shares, share


def score(task: Task, answers: Answers) -> Values:
    """Return the mean over the gold replies of the nats a token, label included."""
    from epo.evaluation.rewards import reply_nll

    contestant = answers.contestant
    if contestant is None or not can_vary(contestant.variant, task.gold):
        return {}
    changed = contestant.variant(task.gold, task.seed)
    label = f"{contestant.name}: gold replies"
    values: list[Any] = gather_shares(
        reply_nll(contestant.model, share(changed), contestant.build, label=label).tolist()
    )
    return scored("gold_nll", values, task.dialogue_ids)


SUITE = Suite(
    place=65,
    needs=("model",),
    columns=(
        Column(
            "gold_nll",
            "Gold NLL",
            "Negative log-likelihood of the gold reply, its label included, in nats a token, mean over replies.",
            better="lower",
            digits=2,
            has_interval=True,
            in_console=False,
        ),
    ),
    score=score,
)

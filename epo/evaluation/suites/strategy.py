"""Strategy: whether a system chooses strategies of support by what is called for, or by a preference of its own."""

from epo.evaluation.strategy_bias import strategy_scores
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Compare the strategies that a file of replies names with those of the gold replies."""
    if answers.strategies is None:
        return {}
    wanted = [task.strategies.get((reply.dialogue_id, reply.turn)) for reply in task.gold]
    known = [(said, gold) for said, gold in zip(answers.strategies, wanted, strict=True) if gold is not None]
    found = strategy_scores([said for said, _ in known], [gold for _, gold in known])
    return {
        "strategy_bias": found.bias,
        "strategy_quality": found.quality,
        "strategy_weighted_f1": found.weighted_f1,
        "strategy_preferences": found.preferences,
    }


SUITE = Suite(
    place=45,
    needs=("strategies",),
    is_quiet=True,
    columns=(
        Column(
            "strategy_bias",
            "Strategy bias",
            "B of Kang et al. 2024 (arXiv 2402.13211): the spread of a system's preferences among strategies in a "
            "Bradley-Terry model of what it chooses where something else is called for; 0 is no preference.",
            better="lower",
        ),
        Column("strategy_quality", "Strategy Q", "Macro-F1 of the chosen strategies (Q of Kang et al. 2024)."),
        Column(
            "strategy_weighted_f1",
            "Strategy F1",
            "F1 of the chosen strategies, weighted by how often each is called for.",
            in_console=False,
        ),
    ),
    details=("strategy_preferences",),
    score=score,
)

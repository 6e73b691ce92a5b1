"""Facts: what was told earlier in the dialogue and the reply repeats; only the built-in corpus says what that is."""

from epo.evaluation.metrics import count_facts
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Return the share of facts repeated, greedy and sampled."""
    values = _recall(task, answers, "fact_recall")
    return values if answers.drawn is None else values | _recall(task, answers.drawn, "fact_recall_sampled")


def _recall(task: Task, answers: Answers, name: str) -> Values:
    facts = [reply.facts for reply in task.gold]
    shares = [count_facts(w, f) / len(f) if f else 0.0 for w, f in zip(answers.counted, facts, strict=True)]
    return scored(name, shares, task.dialogue_ids, [float(len(row)) for row in facts])


SUITE = Suite(
    place=30,
    needs=("facts",),
    columns=(
        Column(
            "fact_recall",
            "Fact recall",
            "Share of the facts told earlier in the dialogue (a name, a place, an event) that the greedy reply repeats "
            "as whole words, over all facts.",
            has_interval=True,
            is_charted=True,
        ),
        Column(
            "fact_recall_sampled",
            "sampled",
            "Fact recall of replies drawn at temperature 1.",
            has_interval=True,
            in_console=False,
            sampled_form_of="Fact recall",
        ),
    ),
    score=score,
)

"""Degenerate: how many replies have no words of their own, which every other suite scores as nothing."""

from epo.evaluation.scoring import record_replies
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Count degenerate replies, greedy and sampled."""
    record_replies("degenerate", [float(said == "") for said in answers.counted], task.dialogue_ids)
    values = {"degenerate": answers.counted.count("") / len(answers.counted)}
    if answers.drawn is not None:
        values["degenerate_sampled"] = answers.drawn.counted.count("") / len(answers.drawn.counted)
    return values


SUITE = Suite(
    place=20,
    columns=(
        Column(
            "degenerate",
            "Degenerate",
            "Share of greedy replies without words of their own: empty, labels among the words, or mostly repetition. "
            "They score 0 wherever they could gain.",
            better="lower",
        ),
        Column(
            "degenerate_sampled",
            "sampled",
            "The same share among the replies drawn at temperature 1.",
            better="lower",
            in_console=False,
            sampled_form_of="Degenerate",
        ),
    ),
    score=score,
)

"""Diversity: how many n-grams of the replies are different ones, and how long the replies are."""

from epo.evaluation.metrics import distinct_n, mean_words
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Count n-grams: of single replies without degenerate ones, over all replies of what was said."""
    values = {"mean_reply_words": mean_words(answers.words)}
    for n in (1, 2):
        values[f"distinct_{n}"] = distinct_n(answers.counted, n)[0]
        values[f"distinct_{n}_corpus"] = distinct_n(answers.words, n)[1]
    return values


SUITE = Suite(
    place=50,
    columns=(
        Column("distinct_1", "Dist-1", "Different words over all words, mean over single replies."),
        Column(
            "distinct_1_corpus",
            "Dist-1 corpus",
            "Different words over all words, all replies as one text.",
            in_console=False,
        ),
        Column(
            "distinct_2",
            "Dist-2",
            "Different word pairs over all word pairs, mean over single replies.",
            in_console=False,
        ),
        Column(
            "distinct_2_corpus",
            "Dist-2 corpus",
            "Different word pairs over all, all replies as one text.",
            in_console=False,
        ),
        Column(
            "mean_reply_words",
            "Words",
            "Mean length of a reply in words; Dist-n falls with it.",
            better=None,
            digits=1,
            in_console=False,
        ),
    ),
    score=score,
)

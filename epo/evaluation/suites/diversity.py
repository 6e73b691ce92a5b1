"""Diversity: how many n-grams of the replies are different ones, and how long the replies are."""

from compressor.words import split_words
from epo.evaluation.metrics import distinct_n, distinct_shares, mean_words
from epo.evaluation.ngram_overlap import self_bleu
from epo.evaluation.scoring import record_replies
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Count n-grams: of single replies without degenerate ones, over all replies of what was said."""
    values = {"mean_reply_words": mean_words(answers.words)}
    record_replies("mean_reply_words", [len(split_words(words)) for words in answers.words], task.dialogue_ids)
    for n in (1, 2):
        record_replies(f"distinct_{n}", distinct_shares(answers.counted, n), task.dialogue_ids)
        values[f"distinct_{n}"] = distinct_n(answers.counted, n)[0]
        values[f"distinct_{n}_corpus"] = distinct_n(answers.words, n)[1]
    repeated = self_bleu(answers.counted)
    record_replies("self_bleu", repeated, task.dialogue_ids)
    return values | {"self_bleu": sum(repeated) / len(repeated)}


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
            "self_bleu",
            "Self-BLEU",
            "BLEU-4 of each reply against all others (Zhu et al. 2018), mean over replies: how much they repeat each "
            "other. It grows with their number; a degenerate reply counts 0.",
            better="lower",
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

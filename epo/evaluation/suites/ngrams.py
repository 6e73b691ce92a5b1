"""N-grams: what a reply shares with the gold reply by BLEU, ROUGE-1 and 2, METEOR and chrF."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from epo.evaluation.metrics import rouge_f1s
from epo.evaluation.ngram_overlap import character_fs, corpus_bleus, meteors
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant

_WORDS = "words are those of docs/evaluation.md, so characters in scripts without blanks"


def score(task: Task, answers: Answers) -> Values:
    """Compare with the gold replies; a degenerate reply shares nothing."""
    said, gold, dialogues = answers.counted, task.texts, task.dialogue_ids
    values: Values = dict(zip(("bleu_1", "bleu_2", "bleu_3", "bleu_4"), corpus_bleus(said, gold), strict=True))
    rouge = rouge_f1s(said, gold, ("rouge1", "rouge2"))
    return (
        values
        | scored("rouge_1", rouge["rouge1"], dialogues)
        | scored("rouge_2", rouge["rouge2"], dialogues)
        | scored("meteor", meteors(said, gold), dialogues)
        | scored("chrf", character_fs(said, gold), dialogues)
    )


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return by what the numbers were made."""
    made = ", ".join(f"{name} {version(name)}" for name in ("nltk", "rouge-score"))
    return {"basis": {"text": f"{made}; {_WORDS}.", "short": made}}


def _column(key: str, heading: str, explanation: str, has_interval: bool = True) -> Column:
    return Column(key, heading, explanation, has_interval=has_interval, in_console=False)


SUITE = Suite(
    place=42,
    columns=(
        *(
            _column(
                f"bleu_{n}",
                f"BLEU-{n}",
                f"Corpus BLEU of n-grams up to {n}, all of one weight, not smoothed (Papineni et al. 2002), 0 to 1.",
                has_interval=False,
            )
            for n in (1, 2, 3, 4)
        ),
        _column("rouge_1", "ROUGE-1", "Words shared with the gold reply, F1 (Lin 2004)."),
        _column("rouge_2", "ROUGE-2", "Word pairs shared with the gold reply, F1 (Lin 2004)."),
        _column(
            "meteor",
            "METEOR",
            "Aligned words, exact or of one Porter stem, less for disorder (Banerjee and Lavie 2005); no WordNet, so "
            "lower than where its synonyms count.",
        ),
        _column(
            "chrf", "chrF", "F of character n-grams up to 6, recall twice as heavy (Popović 2015, beta 2), 0 to 1."
        ),
    ),
    score=score,
    summarise=summarise,
)

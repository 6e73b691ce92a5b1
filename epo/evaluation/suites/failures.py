"""Failures: what goes wrong in a reply, sorted into kinds, each with its share and examples."""

from collections import Counter, defaultdict
from typing import Any

from compressor.words import contains_words, plain_form, split_words
from epo.data.replies import Reply
from epo.evaluation.judged import fit_judge, readable, wanted_emotions
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values
from epo.judging.judge import likeliest

KINDS = ("degenerate", "generic", "misread", "incoherent")
_NUM_EXAMPLES = 3
_LEAST_REPEATED = 3  # dialogues that are told the very same
_SHARE_REPEATED = 0.05
_COMMON = 0.1  # of the gold replies hold a word that says nothing of its dialogue


def score(task: Task, answers: Answers) -> Values:
    """Return the share of each kind, and the first replies of each."""
    found = kinds_of(task, answers)
    values: Values = {}
    for kind in KINDS[1:]:  # degenerate replies have a column of their own
        values |= scored(f"failure_{kind}", [float(one == kind) for one in found], task.dialogue_ids)
    values |= scored("failure_none", [float(one is None) for one in found], task.dialogue_ids)
    examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one, reply, said in zip(found, task.gold, answers.replies, strict=True):
        if one is not None and len(examples[one]) < _NUM_EXAMPLES:
            examples[one].append(_example(reply, said))
    counts = Counter(found)
    return values | {"failures": {kind: {"count": counts[kind], "examples": examples[kind]} for kind in KINDS}}


def kinds_of(task: Task, answers: Answers) -> list[str | None]:
    """Return what is wrong with each reply, the first of `KINDS` that holds; None where none does.

    Our choice: degenerate is the rule of `epo.judging.degenerate_text`; generic are the very words that at least three
    dialogues, and one in twenty, are told; misread is another emotion, as the judge reads it, than the gold reply's;
    incoherent shares no telling word with what was said before or with the gold reply, nor repeats a fact. Telling is a
    word in at most one in ten of the gold replies.
    """
    judged = likeliest(task.once(fit_judge), readable(task, answers))
    told_to = defaultdict(set)
    for words, dialogue in zip(answers.counted, task.dialogue_ids, strict=True):
        told_to[plain_form(words)].add(dialogue)
    least = max(_LEAST_REPEATED, _SHARE_REPEATED * len(set(task.dialogue_ids)))
    common = task.once(_common_words)
    found: list[str | None] = []
    for reply, words, read, wanted in zip(task.gold, answers.counted, judged, task.once(wanted_emotions), strict=True):
        if words == "":
            found.append("degenerate")
        elif len(told_to[plain_form(words)]) >= least:
            found.append("generic")
        elif wanted is not None and read != wanted:
            found.append("misread")
        else:
            found.append(None if _is_about(reply, words, common) else "incoherent")
    return found


def _is_about(reply: Reply, words: str, common: frozenset[str]) -> bool:
    """Tell whether a reply has anything of its dialogue in it."""
    if any(contains_words(words, fact) for fact in reply.facts):
        return True
    around = [*(turn.text for turn in reply.history), reply.current.text, reply.text]
    telling = {word for text in around for word in split_words(text)} - common
    return not telling.isdisjoint(split_words(words))


def _common_words(task: Task) -> frozenset[str]:
    counts = Counter(word for text in task.texts for word in set(split_words(text)))
    return frozenset(word for word, count in counts.items() if count > max(1, _COMMON * len(task.texts)))


def _example(reply: Reply, said: str) -> dict[str, Any]:
    return {
        "dialogue_id": reply.dialogue_id,
        "turn": reply.turn,
        "user_emotion": reply.current.emotion,
        "transcript": reply.current.text,
        "gold_emotion": reply.emotion,
        "gold": reply.text,
        "reply": said,
    }


def _column(kind: str, heading: str, explanation: str, better: Any = "lower") -> Column:
    return Column(f"failure_{kind}", heading, explanation, better=better, has_interval=True, in_console=False)


SUITE = Suite(
    place=22,
    needs=("emotions",),
    is_quiet=True,
    columns=(
        _column("generic", "Generic", "Share of replies whose very words three dialogues and one in twenty are told."),
        _column(
            "misread",
            "Misread",
            "Share of the other replies in another emotion than the gold reply's, as the judge reads it.",
        ),
        _column(
            "incoherent",
            "Incoherent",
            "Share of replies in the right emotion that share no telling word with what was said before or with the "
            "gold reply, nor repeat a fact; telling is a word in at most one in ten of the gold replies. Our choice.",
        ),
        _column("none", "No failure", "Share of replies of none of these kinds, nor degenerate.", "higher"),
    ),
    details=("failures",),
    score=score,
    prepare=fit_judge,
)

__all__ = ["KINDS", "SUITE", "kinds_of"]

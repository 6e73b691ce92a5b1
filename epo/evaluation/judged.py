"""The judge of an evaluation: who reads emotions from replies, what is wanted of them, how far to trust it."""

from collections.abc import Sequence
from typing import Any

from epo.data.chance import is_hardly_better
from epo.emotions import Emotion
from epo.evaluation.suite import Answers, Task
from epo.judging.judge import EmotionJudge, JudgeQuality, likeliest, rate_readings
from epo.judging.opened_judge import OpenedJudge, open_judge
from epo.judging.word_judge import WordJudge
from epo.preferences.scores import is_in_another_script


def fit_judge(task: Task) -> EmotionJudge:
    """Return the judge that a task names; unless it names one, of words, fitted on the labelled training replies."""
    if not task.judge.is_own_words:
        return _Remembering(task.once(opened_judge).judge)
    labelled = [(reply.text, reply.emotion) for reply in task.training if reply.emotion is not None]
    return WordJudge.fit([text for text, _ in labelled], [emotion for _, emotion in labelled])


class _Remembering:
    """A judge that reads the same texts once: several suites ask for a row's replies one after the other."""

    def __init__(self, judge: EmotionJudge) -> None:
        self.name, self._judge = judge.name, judge
        self._kept: dict[tuple[str, ...], Any] = {}

    def read(self, texts: Sequence[str]) -> Any:
        """Return what the judge reads, float64 (N, E)."""
        key = tuple(texts)
        if key not in self._kept:
            self._kept[key] = self._judge.read(texts)
        return self._kept[key]


def opened_judge(task: Task) -> OpenedJudge:
    """Open the judge that a task names, and rate it on the gold replies and what else it names."""
    return open_judge(task.judge, task.training, task.gold)


def wanted_emotions(task: Task) -> list[Emotion | None]:
    """Return the emotion that each reply should carry: that of its gold reply, None where it is not known.

    Where the gold has no label, what the judge reads in the gold reply's words stands in, unless the judge learnt from
    this corpus's own labels (`words`): our choice, for corpora whose replies nobody labelled.
    """
    known = [reply.emotion for reply in task.gold]
    if not task.judge.can_read_gold or None not in known:
        return known
    read = likeliest(task.once(fit_judge), task.texts)
    return [label if label is not None else found for label, found in zip(known, read, strict=True)]


def readable(task: Task, answers: Answers) -> list[str]:
    """Return the words that a judge can read: none of a degenerate reply, none in another script than the gold reply's.

    Of letters that it never saw a judge would answer what is commonest, and be right by chance.
    """
    return [
        "" if is_in_another_script(gold, said) else said for said, gold in zip(answers.counted, task.texts, strict=True)
    ]


def summarise_judge(task: Task) -> dict[str, Any]:
    """Return how good the judge is: on labelled gold replies where there are any, else on its held-out texts."""
    if task.judge.is_own_words:
        quality = _rate_own_words(task)
        report: dict[str, Any] = {"name": "words", "qualities": [] if quality is None else [quality.report()]}
        basis = {} if quality is None else describe_judge(quality.accuracy, quality.majority, quality.macro_f1)
    else:
        opened = task.once(opened_judge)
        quality = opened.qualities[0] if opened.qualities else None
        report = opened.report()
        basis = {"text": opened.describe(), "short": opened.describe_shortly()}
    return {
        "judge": report,
        "notes": report.get("notes", []),
        "judge_accuracy": None if quality is None else quality.accuracy,
        "judge_macro_f1": None if quality is None else quality.macro_f1,
        "judge_majority": None if quality is None else quality.majority,
        **({"basis": basis} if basis else {}),
    }


def describe_judge(accuracy: float, majority: float, macro_f1: float | None = None) -> dict[str, str]:
    """Return what a score by the judge of words rests on: a sentence without its subject, and the numbers alone."""
    f1 = ("", "") if macro_f1 is None else (f", macro-F1 {macro_f1:.3f}", f", F1 {macro_f1:.2f}")
    text = (
        f"a judge of words that is right on {accuracy:.3f} of the held-out gold replies{f1[0]}; always the commonest "
        f"label: {majority:.3f}."
    )
    if is_hardly_better(accuracy, majority):
        text += " That is hardly better, so EmotionScore says little here."
    return {"text": text, "short": f"judge {accuracy:.2f}{f1[1]}, commonest label {majority:.2f}"}


def _rate_own_words(task: Task) -> JudgeQuality | None:
    labelled: Sequence[tuple[str, Emotion, str]] = [
        (reply.text, reply.emotion, reply.dialogue_id) for reply in task.gold if reply.emotion is not None
    ]
    if not labelled:
        return None
    texts, emotions, dialogues = zip(*labelled, strict=True)
    return rate_readings(likeliest(task.once(fit_judge), texts), emotions, dialogues, "its own held-out replies")


__all__ = ["describe_judge", "fit_judge", "opened_judge", "readable", "summarise_judge", "wanted_emotions"]

"""Emotion: whether the words of a reply carry the emotion of the gold reply, as a judge of words reads them."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from epo.data.chance import chance_levels, is_hardly_better
from epo.emotions import EMOTIONS, Emotion
from epo.evaluation.judge import WordJudge
from epo.evaluation.scoring import Cell, scored, scored_cell
from epo.evaluation.suite import Answers, Breakdown, Column, Suite, Task, Values
from epo.judging.degenerate_text import is_degenerate

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant

_SCORE = Column(
    "emotion_score",
    "EmotionScore",
    "Share of greedy replies whose words carry the emotion of the gold reply. A text classifier fitted on the "
    "training replies judges the words; it never sees the emotion label, the clip or the user. No system can be "
    "measured better than the judge judges: its accuracy stands beside the score. Our choice: the published score "
    "of this name has no published formula.",
    has_interval=True,
    is_charted=True,
    levels={"Σp²": "chance.sum_p2", "majority": "chance.majority"},
)
_SAMPLED = Column(
    "emotion_score_sampled",
    "sampled",
    "EmotionScore of replies drawn at temperature 1 from all tokens of the model's distribution.",
    has_interval=True,
    in_console=False,
    sampled_form_of="EmotionScore",
)
_BY = (
    Breakdown(
        "by_gold_emotion",
        "EmotionScore by emotion of the gold reply",
        "Share of replies whose words carry the emotion of the gold reply, by the emotion that the reply should carry.",
        EMOTIONS,
    ),
    Breakdown(
        "by_user_emotion",
        "EmotionScore by emotion of the user",
        "Share of replies whose words carry the emotion of the gold reply, by the emotion that the user showed.",
        EMOTIONS,
    ),
)


def fit_judge(task: Task) -> WordJudge:
    """Fit the judge of words on the training replies whose emotion is known."""
    labelled = _labelled_training(task)
    return WordJudge.fit([text for text, _ in labelled], [emotion for _, emotion in labelled])


def score(task: Task, answers: Answers) -> Values:
    """Score greedy replies, in all and by both emotions, and sampled ones in all."""
    hits = _hits(task, answers)
    values = _scored(task, "emotion_score", hits)
    if answers.drawn is not None:
        values |= _scored(task, "emotion_score_sampled", _hits(task, answers.drawn))
    values["by_gold_emotion"] = _cells(task, hits, [reply.emotion for reply in task.gold])
    values["by_user_emotion"] = _cells(task, hits, [reply.current.emotion for reply in task.gold])
    return values


def baseline(task: Task) -> Answers:
    """Say one and the same to everybody: the first training reply whose words carry the commonest emotion."""
    training = _labelled_training(task)
    commonest = Counter(emotion for _, emotion in training).most_common(1)[0][0]
    written = [reply for reply, emotion in training if emotion == commonest and not is_degenerate(reply)]
    judged = task.once(fit_judge).predict(written)
    read = [reply for reply, emotion in zip(written, judged, strict=True) if emotion == commonest]
    return Answers("majority", [(read or written or [""])[0]] * len(task.gold), kind="base")


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return the levels of chance, and how good the judge is on the gold replies themselves."""
    labelled = [(reply.text, reply.emotion) for reply in task.gold if reply.emotion is not None]
    gold, wanted = [text for text, _ in labelled], [emotion for _, emotion in labelled]
    majority, sum_p2 = chance_levels(wanted)
    accuracy = task.once(fit_judge).accuracy(gold, wanted)
    return {
        "chance": {"majority": majority, "sum_p2": sum_p2},
        "judge_accuracy": accuracy,
        "judge_majority": majority,
        "gold_degenerate": sum(map(is_degenerate, gold)) / len(gold),
        "basis": describe_judge(accuracy, majority),
    }


def describe_judge(accuracy: float, majority: float) -> dict[str, str]:
    """Return what EmotionScore rests on: a sentence without its subject, and the numbers alone."""
    text = (
        f"a judge of words that is right on {accuracy:.3f} of the held-out gold replies; always the commonest label: "
        f"{majority:.3f}."
    )
    if is_hardly_better(accuracy, majority):
        text += " That is hardly better, so EmotionScore says little here."
    return {"text": text, "short": f"judge {accuracy:.2f}, commonest label {majority:.2f}"}


def _labelled_training(task: Task) -> list[tuple[str, Emotion]]:
    return [(reply.text, reply.emotion) for reply in task.training if reply.emotion is not None]


def _hits(task: Task, answers: Answers) -> list[float | None]:
    """Return 1 or 0 for each reply, None where the emotion of its gold is not known."""
    judged = task.once(fit_judge).predict(answers.counted)
    return [
        None if reply.emotion is None else float(read == reply.emotion)
        for read, reply in zip(judged, task.gold, strict=True)
    ]


def _scored(task: Task, name: str, hits: list[float | None]) -> Values:
    known = [(hit, dialogue) for hit, dialogue in zip(hits, task.dialogue_ids, strict=True) if hit is not None]
    return scored(name, [hit for hit, _ in known], [dialogue for _, dialogue in known])


def _cells(task: Task, hits: list[float | None], emotions: list[Emotion | None]) -> dict[str, Cell]:
    """Return EmotionScore by an emotion of each reply, such as the one its gold has."""
    groups: dict[Emotion, list[tuple[float, str]]] = {}
    for hit, emotion, dialogue in zip(hits, emotions, task.dialogue_ids, strict=True):
        if hit is not None and emotion is not None:
            groups.setdefault(emotion, []).append((hit, dialogue))
    return {
        emotion: scored_cell([hit for hit, _ in groups[emotion]], [dialogue for _, dialogue in groups[emotion]])
        for emotion in EMOTIONS
        if emotion in groups
    }


SUITE = Suite(
    place=10,
    needs=("emotions",),
    columns=(_SCORE, _SAMPLED),
    breakdowns=_BY,
    score=score,
    prepare=fit_judge,
    baseline=baseline,
    summarise=summarise,
)

"""Emotion: whether the words of a reply carry the emotion of the gold reply, as a judge of emotions reads them."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epo.data.chance import chance_levels
from epo.emotions import EMOTIONS, Emotion
from epo.evaluation.judged import describe_judge, fit_judge, readable, summarise_judge, wanted_emotions
from epo.evaluation.scoring import Cell, scored, scored_cell
from epo.evaluation.suite import Answers, Breakdown, Column, Suite, Task, Values
from epo.judging.degenerate_text import is_degenerate
from epo.judging.judge import likeliest

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant

_READ_FOR_BASELINE = 500  # training replies, where none is labelled
_SCORE = Column(
    "emotion_score",
    "EmotionScore",
    "Share of greedy replies whose words carry the emotion of the gold reply. A judge of emotions reads the words (a "
    "text classifier fitted on the training replies, unless the recipe names another); it never sees the emotion "
    "label, the clip or the user. A degenerate reply, and one in another script than its gold reply, is a miss. Where"
    " the gold reply has no label, what a judge that was fitted on other text reads in the gold's words stands in. No"
    " system can be measured better than the judge judges: its accuracy and macro-F1 stand beside the score. Our "
    "choice: the published score of this name has no published formula.",
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
_COSINE = Column(
    "emotion_cosine",
    "Cosine",
    "Cosine of what the judge reads in a greedy reply and in its gold reply, each as the probabilities of the seven "
    "emotions: EmotionScore's second form, which also counts what is nearly right. It needs no label. A degenerate "
    "reply scores 0; a degenerate gold reply is passed over. Two texts that the judge is unsure of are alike too, so "
    "read differences, not levels.",
    has_interval=True,
    in_console=False,
)
_COSINE_SAMPLED = Column(
    "emotion_cosine_sampled",
    "Cosine, sampled",
    "The same of replies drawn at temperature 1 from all tokens of the model's distribution.",
    has_interval=True,
    in_console=False,
    sampled_form_of="Cosine",
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


def score(task: Task, answers: Answers) -> Values:
    """Score greedy replies, in all and by both emotions, and sampled ones in all."""
    found = hits(task, answers)
    values = _scored(task, "emotion_score", found) | _scored(task, "emotion_cosine", _cosines(task, answers))
    if answers.drawn is not None:
        values |= _scored(task, "emotion_score_sampled", hits(task, answers.drawn))
        values |= _scored(task, "emotion_cosine_sampled", _cosines(task, answers.drawn))
    values["by_gold_emotion"] = _cells(task, found, task.once(wanted_emotions))
    values["by_user_emotion"] = _cells(task, found, [reply.current.emotion for reply in task.gold])
    return values


def baseline(task: Task) -> Answers:
    """Say one and the same to everybody: the first training reply whose words carry the commonest emotion."""
    training = _labelled_training(task)
    if not training:
        return Answers("majority", [""] * len(task.gold), kind="base")
    commonest = Counter(emotion for _, emotion in training).most_common(1)[0][0]
    written = [reply for reply, emotion in training if emotion == commonest and not is_degenerate(reply)]
    judged = likeliest(task.once(fit_judge), written)
    read = [reply for reply, emotion in zip(written, judged, strict=True) if emotion == commonest]
    return Answers("majority", [(read or written or [""])[0]] * len(task.gold), kind="base")


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return the levels of chance, and how good the judge is on the gold replies themselves."""
    labelled = [
        (reply, emotion)
        for reply, emotion in zip(task.gold, task.once(wanted_emotions), strict=True)
        if emotion is not None
    ]
    majority, sum_p2 = chance_levels([emotion for _, emotion in labelled])
    summary = {
        "chance": {"majority": majority, "sum_p2": sum_p2},
        "gold_degenerate": sum(is_degenerate(reply.text) for reply, _ in labelled) / len(labelled),
        "gold_read_by_judge": sum(reply.emotion is None for reply, _ in labelled) / len(labelled),
    }
    return summary | summarise_judge(task)


def _labelled_training(task: Task) -> list[tuple[str, Emotion]]:
    """Return training replies with their emotion; where none has one, with what the judge reads in the first ones."""
    labelled = [(reply.text, reply.emotion) for reply in task.training if reply.emotion is not None]
    if labelled or not task.judge.can_read_gold:
        return labelled
    texts = [reply.text for reply in task.training[:_READ_FOR_BASELINE]]
    read = likeliest(task.once(fit_judge), texts)
    return [(text, emotion) for text, emotion in zip(texts, read, strict=True) if emotion is not None]


def hits(task: Task, answers: Answers) -> list[float | None]:
    """Return 1 or 0 for each reply, None where the emotion of its gold is not known."""
    judged = likeliest(task.once(fit_judge), readable(task, answers))
    return [
        None if wanted is None else float(read == wanted)
        for read, wanted in zip(judged, task.once(wanted_emotions), strict=True)
    ]


def _cosines(task: Task, answers: Answers) -> list[float | None]:
    """Return the cosine of what is read in each reply and in its gold; 0 for a degenerate reply, None for such gold."""
    judge, words = task.once(fit_judge), readable(task, answers)
    said_NE, gold_NE = judge.read(words), judge.read(task.texts)
    lengths_N = np.linalg.norm(said_NE, axis=1) * np.linalg.norm(gold_NE, axis=1)
    cosines = ((said_NE * gold_NE).sum(axis=1) / lengths_N).tolist()
    return [
        None if is_degenerate(gold) else 0.0 if is_degenerate(said) else cosine
        for cosine, said, gold in zip(cosines, words, task.texts, strict=True)
    ]


def _scored(task: Task, name: str, values: list[float | None]) -> Values:
    known = [(value, dialogue) for value, dialogue in zip(values, task.dialogue_ids, strict=True) if value is not None]
    return scored(name, [value for value, _ in known], [dialogue for _, dialogue in known])


def _cells(task: Task, hits: list[float | None], emotions: Sequence[Emotion | None]) -> dict[str, Cell]:
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
    columns=(_SCORE, _SAMPLED, _COSINE, _COSINE_SAMPLED),
    breakdowns=_BY,
    score=score,
    prepare=fit_judge,
    baseline=baseline,
    summarise=summarise,
)

__all__ = ["SUITE", "describe_judge", "fit_judge"]

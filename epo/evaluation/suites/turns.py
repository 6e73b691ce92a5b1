"""Turns: the scores of emotion by how far a dialogue has come, so that one sees what a growing past does."""

from collections.abc import Sequence

from epo.evaluation.scoring import Cell, scored_cell
from epo.evaluation.suite import Answers, Breakdown, Suite, Task, Values
from epo.evaluation.suites import emotion

_BOUNDS = ((1, "1"), (2, "2"), (4, "3-4"), (8, "5-8"), (16, "9-16"))
_LABELS = (*(label for _, label in _BOUNDS), "17 and more")


def score(task: Task, answers: Answers) -> Values:
    """Return EmotionScore by the number of the reply among the assistant's turns of its dialogue."""
    known = [(reply, hit) for reply, hit in zip(task.gold, emotion.hits(task, answers), strict=True) if hit is not None]
    numbers = [1 + sum(turn.speaker == "assistant" for turn in reply.history) for reply, _ in known]
    return {"by_reply_number": cells(numbers, [hit for _, hit in known], [reply.dialogue_id for reply, _ in known])}


def cells(numbers: Sequence[int], values: Sequence[float], dialogues: Sequence[str]) -> dict[str, Cell]:
    """Return one cell for each group of reply numbers that occurs."""
    groups: dict[str, list[int]] = {}
    for place, number in enumerate(numbers):
        groups.setdefault(label_of(number), []).append(place)
    return {
        label: scored_cell([values[i] for i in groups[label]], [dialogues[i] for i in groups[label]])
        for label in _LABELS
        if label in groups
    }


def label_of(number: int) -> str:
    """Return the group of a reply's number, counted from 1."""
    return next((label for bound, label in _BOUNDS if number <= bound), _LABELS[-1])


SUITE = Suite(
    place=16,
    needs=("emotions",),
    is_quiet=True,
    breakdowns=(
        Breakdown(
            "by_reply_number",
            "EmotionScore by how far the dialogue has come",
            "Share of replies whose words carry the emotion of the gold reply, by the number of the reply among the "
            "assistant's turns of its dialogue. A row rolled out lives with its own earlier replies.",
            _LABELS,
        ),
    ),
    score=score,
)

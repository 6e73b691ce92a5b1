"""Thought: how often a model that names the user's emotion before its reply names it rightly."""

from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values


def score(task: Task, answers: Answers) -> Values:
    """Compare the thoughts with the labels of the user's turns that have a clip; a missing thought is a miss."""
    if answers.thoughts is None or not any(answers.thoughts):
        return {}
    known = [
        (float(thought is not None and thought.lower() == reply.current.emotion), reply.dialogue_id)
        for reply, thought in zip(task.gold, answers.thoughts, strict=True)
        if reply.current.clip is not None and reply.current.emotion is not None
    ]
    return scored("thought_accuracy", [hit for hit, _ in known], [dialogue for _, dialogue in known])


SUITE = Suite(
    place=46,
    needs=("thoughts", "user_emotions"),
    is_quiet=True,
    columns=(
        Column(
            "thought_accuracy",
            "Thought",
            "Share of the user's turns with a clip whose emotion the model names rightly before it replies.",
            has_interval=True,
            is_charted=True,
        ),
    ),
    score=score,
)

"""Appropriateness: how well what a judge reads in a reply fits the emotion that the user showed; no gold is asked."""

from typing import TYPE_CHECKING, Any

import numpy as np

from epo.emotions import APPROPRIATENESS, EMOTIONS
from epo.evaluation.judged import fit_judge, readable, summarise_judge
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values
from epo.judging.degenerate_text import is_degenerate

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant

_APPROPRIATENESS = Column(
    "appropriateness",
    "Appropriate",
    "How well a greedy reply fits what the user feels, 0 to 1: the table of AV-EMO-Reasoning (arXiv 2510.07355), "
    "cells of other emotions ours, at the user's emotion and each emotion of the reply, weighted by the probability "
    "that the judge reads. Only of replies to users whose emotion is known; a degenerate reply scores 0, and so does "
    "one in another script than its gold reply. What the human replies score stands beside it: a judge that errs "
    "gives them less than they deserve, and no difference smaller than that error is to be trusted.",
    has_interval=True,
    is_charted=True,
    in_console=False,
    levels={"human": "appropriateness_gold.appropriateness"},
)
_SAMPLED = Column(
    "appropriateness_sampled",
    "Appropriate, sampled",
    "The same of replies drawn at temperature 1 from all tokens of the model's distribution.",
    has_interval=True,
    in_console=False,
    sampled_form_of="Appropriate",
)


def score(task: Task, answers: Answers) -> Values:
    """Score greedy and sampled replies."""
    values = _scored(task, readable(task, answers), "appropriateness")
    if answers.drawn is not None:
        values |= _scored(task, readable(task, answers.drawn), "appropriateness_sampled")
    return values


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return what the human replies score, which is what the judge's errors leave of them, and the judge's quality."""
    human = _scored(task, task.texts, "appropriateness")
    summary = {"appropriateness_gold": human} | summarise_judge(task)
    if "basis" in summary:
        said, short = summary["basis"]["text"], summary["basis"]["short"]
        own = human["appropriateness"]
        summary["basis"] = {"text": f"{said} The human replies score {own:.3f}.", "short": f"human {own:.2f}; {short}"}
    return summary


def _scored(task: Task, texts: list[str], name: str) -> Values:
    table_EE = np.array([[APPROPRIATENESS[user][reply] for reply in EMOTIONS] for user in EMOTIONS])
    rows_NE = task.once(fit_judge).read(texts)
    values, dialogues = [], []
    for reply, text, row_E in zip(task.gold, texts, rows_NE, strict=True):
        user = reply.current.emotion
        if user is not None:
            values.append(0.0 if is_degenerate(text) else float(row_E @ table_EE[EMOTIONS.index(user)]))
            dialogues.append(reply.dialogue_id)
    return scored(name, values, dialogues)


SUITE = Suite(
    place=12,
    needs=("judge", "user_emotions"),
    columns=(_APPROPRIATENESS, _SAMPLED),
    score=score,
    prepare=fit_judge,
    summarise=summarise,
)

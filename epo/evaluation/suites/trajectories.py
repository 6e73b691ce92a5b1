"""Trajectories: how the course of a reply's valence and arousal follows, balances and steadies the user's."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epo.emotions import EMOTIONS, VALENCE_AROUSAL
from epo.evaluation import trajectories as courses
from epo.evaluation.judged import fit_judge, readable, summarise_judge
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant

_CLAUSE_ENDS = re.compile(r"(?<=[.!?;:,…。！？；：，、])\s*|\n+")
_SCORES = ("ers", "ecs", "ebs", "ess")
_HEADINGS = {"ers": "ERS", "ecs": "ECS", "ebs": "EBS", "ess": "ESS"}
_MEANINGS = {
    "ers": "Emotional reasoning: the mean of the three below, weights 0.4, 0.4 and 0.2, of those that there are.",
    "ecs": "Emotional consistency: 1 less half the mean distance of the reply's course from the user's, valence and "
    "arousal, along the best alignment. It rewards mirroring, also of anger: never read it without EBS.",
    "ebs": "Emotional balance: the same towards the user's course moved to where it is calmer and brighter, only of "
    "users whose mean valence is low or whose arousal or dominance is high.",
    "ess": "Emotional steadiness: 1 less half the mean step within a reply, steps below 0.04 counting nothing; of "
    "replies of two clauses, or seconds, and more.",
}


def score(task: Task, answers: Answers) -> Values:
    """Score each reply's course against the user's, and all replies' means against the gold replies'."""
    measured = {(c.dialogue_id, c.turn, c.row): c.vad for c in task.vad}
    users = task.once(_user_courses)
    texts = _text_courses(task, readable(task, answers))
    places = [(reply.dialogue_id, reply.turn) for reply in task.gold]
    agents = [measured.get((*place, answers.name), text) for place, text in zip(places, texts, strict=True)]
    values: Values = {}
    left_out: Counter[str] = Counter()
    for form, make in (("", _corrected), ("_parent", _parents)):
        rows = [make(user, agent) for user, agent in zip(users, agents, strict=True)]
        for name in _SCORES:
            found = [(row[name], dialogue) for row, dialogue in zip(rows, task.dialogue_ids, strict=True)]
            known = [(value, dialogue) for value, dialogue in found if value is not None]
            values |= scored(name + form, [value for value, _ in known], [dialogue for _, dialogue in known])
            left_out[name + form] = len(rows) - len(known)
    below = [value < 0 for row in rows if (value := row["ers"]) is not None]
    values["ers_parent_negative"] = sum(below) / len(below) if below else None
    values |= _concordances(task, agents, measured)
    num_measured = sum((*place, answers.name) in measured for place in places)
    return values | {"trajectory_counts": {"measured": num_measured, "left_out": dict(left_out)}}


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return what the courses rest on."""
    sources = Counter(course.source for course in task.vad)
    measured = ", ".join(f"{count} courses measured by {name}" for name, count in sources.items())
    text = (
        "courses of a point a clause, the judge's probabilities times a table of valence and arousal (our choice); a "
        "user's is the point that people rated, or else that of the labelled emotion, where there is one"
    )
    said = f"{measured}; else {text}." if measured else f"{text}."
    found = summarise_judge(task)
    found.pop("basis", None)
    return found | {"basis": {"text": said, "short": "measured" if measured else "read from words"}}


def _corrected(user: Any, agent: Any) -> dict[str, float | None]:
    dims = min(user.shape[1], agent.shape[1])
    user, agent = user[:, :dims], agent[:, :dims]
    parts = (courses.ecs(user, agent), courses.ebs(user, agent), courses.ess(agent))
    is_there = len(agent) > 0
    return {"ers": courses.ers(*parts) if is_there else None} | dict(zip(_SCORES[1:], parts, strict=True))


def _parents(user: Any, agent: Any) -> dict[str, float | None]:
    dims = min(user.shape[1], agent.shape[1])
    user, agent = user[:, :dims], agent[:, :dims]
    if min(len(user), len(agent)) == 0:
        return dict.fromkeys(_SCORES)
    ecs, ebs, ess = courses.ecs_parent(user, agent), courses.ebs_parent(user, agent), courses.ess_parent(agent)
    return {"ers": courses.ers_parent(ecs, ebs, ess), "ecs": ecs, "ebs": ebs, "ess": ess}


def _concordances(task: Task, agents: Sequence[Any], measured: dict[Any, Any]) -> Values:
    """Return CCC of the replies' mean valence and arousal with those of the gold replies, read by the same means."""
    golds = [
        measured.get((reply.dialogue_id, reply.turn, None), text)
        for reply, text in zip(task.gold, _text_courses(task, task.texts), strict=True)
    ]
    pairs = [(a.mean(axis=0), g.mean(axis=0)) for a, g in zip(agents, golds, strict=True) if len(a) and len(g)]
    return {
        f"{name}_ccc": courses.concordance([a[dim] for a, _ in pairs], [g[dim] for _, g in pairs])
        for dim, name in enumerate(("valence", "arousal"))
    }


def _user_courses(task: Task) -> list[Any]:
    """Return the course of each user turn that is answered: measured, rated, of its label, or read from its words."""
    measured = {(c.dialogue_id, c.turn): c.vad for c in task.vad if c.speaker == "user"}
    texts = _text_courses(task, [reply.current.text for reply in task.gold])
    found = []
    for reply, text in zip(task.gold, texts, strict=True):
        label = reply.current.emotion
        known = text if label is None else np.array([VALENCE_AROUSAL[label]])
        known = known if reply.current.vad is None else np.array([reply.current.vad])
        found.append(measured.get((reply.dialogue_id, reply.turn - 1), known))
    return found


def _text_courses(task: Task, texts: Sequence[str]) -> list[Any]:
    """Return one point a clause, float64 (T, 2), of valence and arousal; none for a text without words."""
    clauses = [[part for part in _CLAUSE_ENDS.split(text) if part.strip(" .!?;:,…。！？；：，、")] for text in texts]
    flat = [part for parts in clauses for part in parts]
    table_E2 = np.array([VALENCE_AROUSAL[emotion] for emotion in EMOTIONS])
    points = task.once(fit_judge).read(flat) @ table_E2 if flat else np.zeros((0, 2))
    ends = np.cumsum([len(parts) for parts in clauses])
    return [points[end - len(parts) : end] for end, parts in zip(ends, clauses, strict=True)]


def _columns() -> tuple[Column, ...]:
    ours = [Column(n, _HEADINGS[n], _MEANINGS[n], has_interval=True, in_console=False) for n in _SCORES]
    theirs = [
        Column(
            f"{name}_parent",
            f"{_HEADINGS[name]}, parent's form",
            f"{_HEADINGS[name]} as AV-EMO-Reasoning's parent computes it (arXiv 2510.07355), over the dimensions that "
            "were read; unbounded below.",
            has_interval=True,
            in_console=False,
        )
        for name in _SCORES
    ]
    return (
        *ours,
        *theirs,
        Column(
            "ers_parent_negative",
            "ERS below 0",
            "Share of replies whose ERS in the parent's form is below 0.",
            better="lower",
            in_console=False,
        ),
        *(
            Column(
                f"{name}_ccc",
                f"{name.capitalize()} CCC",
                f"Concordance (Lin 1989) of the mean {name} of replies and gold replies, read by the same means.",
                in_console=False,
            )
            for name in ("valence", "arousal")
        ),
    )


SUITE = Suite(
    place=14,
    needs=("judge",),
    is_quiet=True,
    columns=_columns(),
    details=("trajectory_counts",),
    score=score,
    prepare=fit_judge,
    summarise=summarise,
)

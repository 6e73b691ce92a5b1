"""`vad.jsonl`: valence, arousal and dominance measured in speech, of users, of gold replies, of rendered replies."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from epo.data.dialogue import DataError, Dialogue
from epo.data.findings import StopAtFault
from epo.data.lines import read_lines

_WANT = (
    'want {"dialogue_id": "d7", "turn": 3, "speaker": "assistant", "rate_hz": 1, "vad": [[0.1, -0.2, 0.0], ...], '
    '"source": "...", "row": "sft"}'
)

_KEYS = frozenset({"dialogue_id", "turn", "speaker", "rate_hz", "vad", "source", "row"})


@dataclass(frozen=True)
class VadCourse:
    """One course.

    Attributes:
        dialogue_id: where it belongs.
        turn: whose course it is.
        speaker: of the turn.
        vad: float64 (T, 3), valence, arousal and dominance, each in [-1, 1], one row a second.
        source: what measured it, and of what.
        row: whose rendered reply it is; None for what was really said, the user's or the gold reply.
    """

    dialogue_id: str
    turn: int
    speaker: Literal["user", "assistant"]
    vad: Any
    source: str
    row: str | None = None


def read_vad(path: str | Path, dialogues: Mapping[str, Dialogue]) -> list[VadCourse]:
    """Read a file of courses, one JSON object a line.

    `vad` holds rows of valence, arousal, dominance in [-1, 1]: map a model's other scale there first. `rate_hz` says
    how many rows are a second, one at least; they are averaged to one a second. An empty `vad` says that nothing was
    measured.

    Args:
        path: of the file.
        dialogues: by id, which the lines point into.

    Raises:
        DataError: the file is missing, or a line is malformed, points to no turn, or says a course again.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one JSON object a line, {_WANT.removeprefix('want ')}")
    found: dict[tuple[str, int, str | None], VadCourse] = {}
    for where, row in read_lines(path, StopAtFault()):
        course = _course(row, where, dialogues)
        place = (course.dialogue_id, course.turn, course.row)
        if place in found:
            raise DataError(f"{where}: the course of turn {course.turn} of {course.dialogue_id!r} again; keep one line")
        found[place] = course
    return list(found.values())


def unused_rows(courses: Iterable[VadCourse], names: Collection[str]) -> list[str]:
    """Return a note where courses are of rows that a report does not have: they count for nothing there."""
    others = Counter(course.row for course in courses if course.row is not None and course.row not in names)
    if not others:
        return []
    told = ", ".join(f"{count} of {row!r:.40}" for row, count in others.most_common(5))
    return [f"Courses of rows that are not tested count for nothing: {told}; the rows are {', '.join(names)}."]


def _course(row: Mapping[str, Any], where: str, dialogues: Mapping[str, Dialogue]) -> VadCourse:
    name, turn, rate, points = row.get("dialogue_id"), row.get("turn"), row.get("rate_hz", 1), row.get("vad")
    dialogue = dialogues.get(name) if isinstance(name, str) else None
    if dialogue is None or not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < len(dialogue.turns):
        raise DataError(f"{where}: turn {turn!r:.40} of dialogue {name!r:.60} is not in the dialogues file; {_WANT}")
    speaker, of = row.get("speaker"), row.get("row")
    if speaker != dialogue.turns[turn].speaker:
        raise DataError(f"{where}: speaker is {speaker!r:.40}, but turn {turn} is the {dialogue.turns[turn].speaker}'s")
    if of is not None and (not isinstance(of, str) or speaker == "user"):
        raise DataError(f"{where}: row is {of!r:.40}; want the name of the row whose reply was rendered")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 1 <= rate <= 1000:
        raise DataError(f"{where}: rate_hz is {rate!r:.40}, want rows a second, from 1 to 1000")
    unknown = sorted(row.keys() - _KEYS)
    if unknown:
        names = ", ".join(f"{key!r:.40}" for key in unknown[:8])
        raise DataError(f"{where}: unknown key {names}; known are {', '.join(sorted(_KEYS))}; take it out")
    return VadCourse(
        str(name), turn, speaker, _by_second(_points(points, where), float(rate)), str(row.get("source")), of
    )


def _points(points: Any, where: str) -> Any:
    """Return the rows as an array, float64 (T, 3)."""
    is_table = isinstance(points, list) and all(isinstance(point, list) and len(point) == 3 for point in points)
    if not is_table or not all(type(value) in (int, float) for point in points for value in point):
        raise DataError(f"{where}: vad is {points!r:.60}; want rows of valence, arousal and dominance")
    table = np.array(points, dtype=np.float64).reshape(-1, 3)
    if not (np.abs(table) <= 1).all():
        raise DataError(
            f"{where}: vad holds values outside of -1 to 1; map the model's scale first, such as 2 x - 1 for 0 to 1"
        )
    return table


def _by_second(points: Any, rate_hz: float) -> Any:
    """Average rows to one a second."""
    if rate_hz == 1 or len(points) == 0:
        return points
    seconds = (np.arange(len(points)) / rate_hz).astype(int)
    return np.stack([points[seconds == second].mean(axis=0) for second in np.unique(seconds)])


__all__ = ["VadCourse", "read_vad", "unused_rows"]

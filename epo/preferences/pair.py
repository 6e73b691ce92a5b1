"""PreferencePair: one gold reply against one counter-emotional reply, read from and written to JSONL."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from epo.data.dialogue import DataError, Dialogue
from epo.data.replies import is_reply
from epo.emotions import Emotion, UnknownEmotionError, parse_emotion


@dataclass(frozen=True)
class PreferencePair:
    """Two replies to the same dialogue history and the same clip, written in different emotions.

    The pair points into a dialogue: the history is `dialogue.turns[:turn]` and the user's current turn is
    `turn - 1`. `source` says where the rejected reply came from; `scores` holds what the filters measured.
    """

    dialogue_id: str
    turn: int
    chosen: str
    chosen_emotion: Emotion
    rejected: str
    rejected_emotion: Emotion
    source: str
    scores: dict[str, float] = field(default_factory=dict)


def read_pairs(path: str | Path, dialogues: Mapping[str, Dialogue]) -> list[PreferencePair]:
    """Read and validate a pairs file.

    Args:
        path: JSONL, one pair a line.
        dialogues: the dialogues the pairs point into, by id.

    Raises:
        DataError: the file is missing or empty, a line is malformed, its dialogue is unknown, its turn is no
            assistant turn after a user turn, a reply is empty, or both replies are the same. The message starts
            with `path:line`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with `python launch/preferences.py`")
    pairs = []
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            where = f"{path}:{number}"
            pairs.append(_parse_pair(_load_json(raw, where), dialogues, where))
    if not pairs:
        raise DataError(f"{path}: holds no pair; see report.json beside it for what was dropped and why")
    return pairs


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> int:
    """Write pairs as JSONL, atomically, and return how many."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for pair in pairs:
            out.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def is_same_text(first: str, second: str) -> bool:
    """Tell whether two replies are the same but for case and blanks."""
    return first.casefold().split() == second.casefold().split()


def _parse_pair(row: Any, dialogues: Mapping[str, Dialogue], where: str) -> PreferencePair:
    _require(isinstance(row, dict), where, "want a JSON object")
    known = {entry.name for entry in fields(PreferencePair)}
    unknown, missing = sorted(set(row) - known), sorted(known - {"scores"} - set(row))
    _require(not unknown, where, f"unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}")
    _require(not missing, where, f"{', '.join(map(repr, missing))} missing; see docs/preferences.md")
    for key in ("dialogue_id", "chosen", "rejected", "source"):
        _require(isinstance(row[key], str), where, f"{key!r} must be a string")
    _check_place(row["dialogue_id"], row["turn"], dialogues, where)
    for key in ("chosen", "rejected"):
        _require(row[key].strip() != "", where, f"{key!r} is empty; write the reply or drop the pair")
    is_same = is_same_text(row["chosen"], row["rejected"])
    _require(not is_same, where, "'chosen' and 'rejected' are the same text; drop the pair")
    emotions = {key: _emotion(row[key], f"{where}: {key!r}") for key in ("chosen_emotion", "rejected_emotion")}
    return PreferencePair(**{**row, **emotions, "scores": _scores(row.get("scores", {}), where)})


def _check_place(dialogue_id: str, turn: Any, dialogues: Mapping[str, Dialogue], where: str) -> None:
    known = dialogue_id in dialogues
    _require(known, where, f"dialogue {dialogue_id!r} is not in the dialogues file; the pairs belong to other data")
    is_index = isinstance(turn, int) and not isinstance(turn, bool)
    _require(
        is_index and is_reply(dialogues[dialogue_id], turn),
        where,
        f"turn {turn!r} of dialogue {dialogue_id!r} is not an assistant turn that follows a user turn "
        f"(turns are counted from 0; there are {len(dialogues[dialogue_id].turns)})",
    )


def _emotion(label: Any, where: str) -> Emotion:
    _require(isinstance(label, str), where, "must be a string")
    try:
        emotion = parse_emotion(label)
    except UnknownEmotionError as error:
        raise DataError(f"{where}: {error}") from None
    assert emotion is not None  # only a corpus's own table marks labels as unusable
    return emotion


def _scores(row: Any, where: str) -> dict[str, float]:
    _require(isinstance(row, dict), where, "'scores' must map names to numbers")
    for name, value in row.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        _require(is_number, where, f"score {name!r} is {value!r}, want a finite number")
    return {name: float(value) for name, value in row.items()}


def _load_json(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); write one JSON object a line, in UTF-8") from None


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise DataError(f"{where}: {message}")

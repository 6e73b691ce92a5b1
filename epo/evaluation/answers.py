"""Replies that lie in a file: which one belongs to which gold reply, checked line by line."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epo.data.dialogue import DataError, Dialogue
from epo.data.findings import Findings, StopAtFault
from epo.data.lines import read_lines
from epo.data.replies import Reply, is_reply
from epo.evaluation.suite import Answers
from epo.files import write_whole

_KEYS = {"dialogue_id": str, "turn": int, "reply": str}
_WANT = 'want {"dialogue_id": "d7", "turn": 3, "reply": "..."}'


def read_answers(
    path: str | Path, dialogues: Mapping[str, Dialogue], gold: Sequence[Reply], findings: Findings | None = None
) -> tuple[list[str], list[str]]:
    """Read what some system replied.

    Args:
        path: JSONL, one object a line with `dialogue_id`, `turn` (that of the gold reply, counted from 0) and `reply`,
            with or without an emotion label before the words; further keys are passed over.
        dialogues: by id, which the lines point into.
        gold: the replies to give.
        findings: hears of faults; None stops at the first.

    Returns:
        One reply for each of `gold`, empty where the file has none; and notes on what is missing or over, one sentence
        each.

    Raises:
        DataError: the file is missing, or answers none of `gold`; or a line is malformed, points to no reply, or
            answers a turn for the second time. The message starts with `path:line`.
    """
    path, listener = Path(path), StopAtFault() if findings is None else findings
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one JSON object a line, {_WANT.removeprefix('want ')}")
    found: dict[tuple[str, int], str] = {}
    lines: dict[tuple[str, int], str] = {}
    for where, row in read_lines(path, listener):
        place = _place(row, where, dialogues, listener)
        if place is not None and place in found:
            listener.fault("turn answered twice", f"{where}: answers the turn of {lines[place]} again", "keep one line")
        elif place is not None:
            found[place], lines[place] = row["reply"], where
    wanted = [(reply.dialogue_id, reply.turn) for reply in gold]
    num_missing = sum(place not in found for place in wanted)
    if num_missing == len(wanted):
        raise DataError(f"{path}: {_none_fits(found, gold)}")
    notes = []
    if num_missing > 0:
        notes.append(f"{path}: {num_missing} of {len(wanted)} replies are missing; they count as empty replies.")
    num_over = len(found.keys() - set(wanted))
    if num_over > 0:
        notes.append(f"{path}: {num_over} replies to turns that are not tested are passed over.")
    return [found.get(place, "") for place in wanted], notes


def _place(
    row: dict[str, Any], where: str, dialogues: Mapping[str, Dialogue], findings: Findings
) -> tuple[str, int] | None:
    """Return dialogue and turn that a line answers, or None, and a fault."""
    for key, kind in _KEYS.items():
        if not isinstance(row.get(key), kind) or isinstance(row.get(key), bool):
            came = "is missing" if key not in row else f"is {row[key]!r:.60}"
            findings.fault("line is no reply", f"{where}: {key!r} {came}", _WANT)
            return None
    dialogue, turn = dialogues.get(row["dialogue_id"]), row["turn"]
    if dialogue is None:
        place = f"{where}: dialogue {row['dialogue_id']!r:.80} is not in the dialogues file"
        findings.fault("reply in an unknown dialogue", place, "name the data that was answered, or take the line out")
        return None
    if not is_reply(dialogue, turn):
        place = (
            f"{where}: turn {turn} of dialogue {dialogue.id!r:.80} is not an assistant turn that follows a user turn "
            f"(turns are counted from 0; there are {len(dialogue.turns)})"
        )
        findings.fault("reply to an unknown turn", place, "give the number of the gold reply")
        return None
    return dialogue.id, turn


def _none_fits(found: Mapping[tuple[str, int], str], gold: Sequence[Reply]) -> str:
    """Return why none of the replies can be used."""
    if not found:
        return f"holds no reply; write one JSON object a line, {_WANT}"
    first = gold[0]
    splits = Counter(reply.split for reply in gold)
    return (
        f"none of its {len(found)} replies answers one of the {len(gold)} turns that are tested, of split "
        f"{splits.most_common(1)[0][0]!r}, such as turn {first.turn} of dialogue {first.dialogue_id!r}; set split and "
        "replies to what was answered"
    )


def write_replies(folder: Path, entrant: Answers, gold: Sequence[Reply]) -> None:
    """Write what an entrant replied into a file of its own, which `read_answers` reads back.

    Args:
        folder: for `NAME.jsonl`; blanks and commas of a name become `_`.
        entrant: with one reply for each of `gold`, greedy, and perhaps one drawn at temperature 1.
        gold: the replies that were to be given.
    """
    drawn = [None] * len(gold) if entrant.sampled is None else entrant.sampled
    rows = [
        {"dialogue_id": reply.dialogue_id, "turn": reply.turn, "reply": said}
        | ({} if other is None else {"sampled": other})
        for reply, said, other in zip(gold, entrant.replies, drawn, strict=True)
    ]
    name = re.sub(r"[^\w.+-]+", "_", entrant.name)
    write_whole(folder / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


__all__ = ["read_answers", "write_replies"]

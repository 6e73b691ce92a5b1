"""Replies that lie in a file: which one belongs to which gold reply; what is amiss is counted and named."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable
from epo.data.dialogue import DataError, Dialogue
from epo.data.findings import Findings, StopAtFault
from epo.data.lines import read_lines
from epo.data.replies import Reply, is_reply
from epo.evaluation.suite import Answers
from epo.files import write_whole
from epo.preferences.language_guess import guess_language
from epo.preferences.scores import is_in_another_script
from epo.prompts.emotion_label import split_reply

Place = tuple[str, int]
"""Dialogue and turn of a reply."""

_KEYS = {"dialogue_id": str, "turn": int, "reply": str}
_WANT = 'want {"dialogue_id": "d7", "turn": 3, "reply": "..."}'
_NUM_NAMED = 5


@dataclass(frozen=True)
class FileReplies:
    """What a file of replies holds for the replies that are to be given.

    Attributes:
        replies: one for each gold reply, empty where the file has none.
        strategies: what each is meant to do, where its line says `strategy`; None where it does not.
        places: of what is amiss, by kind: `missing`, `empty`, `repeated`, `unknown`, `not_tested`, `other_language`.
        notes: the same in sentences.
    """

    replies: list[str]
    strategies: list[str | None]
    places: dict[str, list[Place]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, Any]:
        """What is amiss, for a report: by kind how many, and the first places."""
        return {
            kind: {"count": len(places), "first": [{"dialogue_id": d, "turn": t} for d, t in places[:_NUM_NAMED]]}
            for kind, places in self.places.items()
        }


def read_replies(
    path: str | Path, dialogues: Mapping[str, Dialogue], gold: Sequence[Reply], findings: Findings | None = None
) -> FileReplies:
    """Read what some system replied.

    Whatever a system left out counts as an empty reply, which scores 0; a turn that is answered twice has its first
    reply; replies to unknown turns and to turns that are not tested are passed over. All of that is counted and named.

    Args:
        path: JSONL, one object a line with `dialogue_id`, `turn` (that of the gold reply, counted from 0), `reply`,
            with or without an emotion label before the words, and perhaps `strategy`; further keys are passed over.
        dialogues: by id, which the lines point into.
        gold: the replies to give.
        findings: hears of malformed lines; None stops at the first.

    Raises:
        DataError: the file is missing, a line is malformed (`path:line` comes first), or nothing of `gold` is answered.
    """
    path, listener = Path(path), StopAtFault() if findings is None else findings
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one JSON object a line, {_WANT.removeprefix('want ')}")
    found: dict[Place, dict[str, Any]] = {}
    places: dict[str, list[Place]] = {"missing": [], "empty": [], "repeated": [], "unknown": [], "not_tested": []}
    for where, row in read_lines(path, listener):
        if not _is_well_formed(row, where, listener):
            continue
        place = (row["dialogue_id"], row["turn"])
        if place[0] not in dialogues or not is_reply(dialogues[place[0]], place[1]):
            places["unknown"].append(place)
        elif place in found:
            places["repeated"].append(place)
        else:
            found[place] = row
    wanted = [(reply.dialogue_id, reply.turn) for reply in gold]
    tested = set(wanted)
    if not tested & found.keys():
        raise DataError(f"{path}: {_none_fits(found.keys(), places['unknown'], gold)}")
    places["missing"] = [place for place in wanted if place not in found]
    places["not_tested"] = [place for place in found if place not in tested]
    rows = [found.get(place, {"reply": ""}) for place in wanted]
    replies = [row["reply"] for row in rows]
    places["empty"] = [
        place
        for place, said in zip(wanted, replies, strict=True)
        if place in found and not split_reply(said)[1].strip()
    ]
    places["other_language"] = [
        (reply.dialogue_id, reply.turn)
        for reply, said in zip(gold, replies, strict=True)
        if _is_foreign(split_reply(said)[1], reply)
    ]
    places = {kind: some for kind, some in places.items() if some}
    strategies = [row.get("strategy") if isinstance(row.get("strategy"), str) else None for row in rows]
    return FileReplies(replies, strategies, places, _notes(path, places, len(wanted)))


def read_answers(
    path: str | Path, dialogues: Mapping[str, Dialogue], gold: Sequence[Reply], findings: Findings | None = None
) -> tuple[list[str], list[str]]:
    """Return the replies of a file and the notes on them; arguments and errors are those of `read_replies`."""
    read = read_replies(path, dialogues, gold, findings)
    return read.replies, read.notes


def _is_foreign(said: str, gold: Reply) -> bool:
    """Tell whether words are likely of another language than the reply that they stand for, by script or by words."""
    return guess_language(said) not in (None, gold.language) or is_in_another_script(gold.text, said)


def _notes(path: Path, places: Mapping[str, Sequence[Place]], num_wanted: int) -> list[str]:
    """Return one sentence for each kind of what is amiss, with the first places."""
    sentences = {
        "missing": f"{{}} of {num_wanted} replies are missing; they count as empty replies",
        "empty": "{} replies are empty; they score 0",
        "repeated": "{} replies answer a turn for the second time; the first reply to a turn counts",
        "unknown": "{} replies to unknown dialogues or turns are passed over",
        "not_tested": "{} replies to turns that are not tested are passed over",
        "other_language": "{} replies seem to be in another language than their dialogue; in another script they "
        "are misses, else scored as they are",
    }
    return [f"{path}: {sentences[kind].format(len(some))} ({_named(some)})." for kind, some in places.items()]


def _named(places: Sequence[Place]) -> str:
    first = ", ".join(f"turn {turn} of {dialogue!r:.60}" for dialogue, turn in places[:_NUM_NAMED])
    return first if len(places) <= _NUM_NAMED else f"{first}, ..."


def _is_well_formed(row: Mapping[str, Any], where: str, findings: Findings) -> bool:
    """Tell whether a line says which turn it answers, and how; else a fault is heard of."""
    for key, kind in _KEYS.items():
        if not isinstance(row.get(key), kind) or isinstance(row.get(key), bool):
            came = "is missing" if key not in row else f"is {row[key]!r:.60}"
            findings.fault("line is no reply", f"{where}: {key!r} {came}", _WANT)
            return False
    for key in ("dialogue_id", "reply", "strategy"):
        if isinstance(row.get(key), str) and not is_encodable(row[key]):
            findings.fault("half a character", f"{where}: {key!r} holds a lone surrogate", "write it whole")
            return False
    return True


def _none_fits(found: Collection[Place], unknown: Sequence[Place], gold: Sequence[Reply]) -> str:
    """Return why none of the replies can be used."""
    if not found and not unknown:
        return f"holds no reply; write one JSON object a line, {_WANT}"
    if not found:
        return (
            f"none of its {len(unknown)} replies answers a turn of the dialogues file ({_named(unknown)}): there must "
            "be such a dialogue, and its turn, counted from 0, an assistant turn that follows a user turn"
        )
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
        entrant: with one reply for each of `gold`, greedy, and perhaps one drawn at temperature 1, and the thought
            before it.
        gold: the replies that were to be given.
    """
    drawn = [None] * len(gold) if entrant.sampled is None else entrant.sampled
    rows: list[dict[str, Any]] = [
        {"dialogue_id": reply.dialogue_id, "turn": reply.turn, "reply": said}
        | ({} if other is None else {"sampled": other})
        for reply, said, other in zip(gold, entrant.replies, drawn, strict=True)
    ]
    if entrant.thoughts is not None:
        rows = [row | {"thought": thought} for row, thought in zip(rows, entrant.thoughts, strict=True)]
    write_whole(
        folder / f"{file_name(entrant.name)}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    )


def file_name(row: str) -> str:
    """Return the name of a row's files, without an ending: blanks and commas become `_`."""
    return re.sub(r"[^\w.+-]+", "_", row)


__all__ = ["FileReplies", "file_name", "read_answers", "read_replies", "write_replies"]

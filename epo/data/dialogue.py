"""Dialogue, Turn and Clip: the interchange format every corpus reader writes and every stage reads, as JSONL."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from epo.emotions import Emotion, UnknownEmotionError, parse_emotion

Speaker = Literal["user", "assistant"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class DataError(ValueError):
    """A fault in the user's data; the message names file, line or dialogue, and the remedy."""


@dataclass(frozen=True)
class Clip:
    """Where the audio and video of one turn lie; either half may be absent.

    Paths are absolute once read. `start_s` and `end_s` are seconds into the files; `end_s` None means the end.
    """

    audio: Path | None = None
    video: Path | None = None
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True)
class Turn:
    """One utterance: who spoke, the words, and if known the emotion, the clip and what else the corpus says of it.

    `name` is who spoke, as the corpus calls them; `strategy` what the turn is meant to do ("Question", ESConv's
    word); `description` how it is spoken, in a sentence. `labelled_by` names the model that gave the emotion; None
    where a person did.
    """

    speaker: Speaker
    text: str
    emotion: Emotion | None = None
    clip: Clip | None = None
    name: str | None = None
    strategy: str | None = None
    description: str | None = None
    labelled_by: str | None = None


@dataclass(frozen=True)
class Dialogue:
    """A validated conversation.

    `facts` holds, per index of an assistant turn, the strings a good reply must contain; the built-in corpus
    fills it for evaluation, other corpora leave it empty. `split` is None until a split is assigned. Dialogues of one
    `group` (a speaker, a session, a show) get the same split. `background` is what was known before the first turn;
    `personas` are sentences about either side.
    """

    id: str
    turns: tuple[Turn, ...]
    language: str = "en"
    split: Split | None = None
    facts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    group: str | None = None
    background: str | None = None
    personas: dict[Speaker, tuple[str, ...]] = field(default_factory=dict)


def read_dialogues(path: str | Path) -> Iterator[Dialogue]:
    """Yield the dialogues of a JSONL file one at a time.

    Raises:
        DataError: the file is missing, a line is malformed, an id repeats, an emotion is unknown, or a clip is
            absent or leaves the file's folder. The message starts with `path:line`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with `python launch/data.py import`, or see docs/data.md")
    root = Path(os.path.realpath(path.parent))
    seen: set[str] = set()
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            where = f"{path}:{number}"
            dialogue = parse_dialogue(load_line(raw, where), root, where)
            if dialogue.id in seen:
                raise DataError(f"{where}: dialogue id {dialogue.id!r} appears twice; give each its own id")
            seen.add(dialogue.id)
            yield dialogue


def parse_dialogue(row: Any, root: Path, where: str) -> Dialogue:
    """Turn one decoded JSON object into a `Dialogue`.

    Args:
        row: the decoded line.
        root: real path of the folder the media paths are relative to.
        where: `path:line`, put before every message.

    Raises:
        DataError: anything in the row is not as docs/data.md says.
    """
    for fault in find_faults(row, root, where):
        raise DataError(fault)
    return Dialogue(
        id=row["id"],
        turns=tuple(_make_turn(turn, root) for turn in row["turns"]),
        language=row.get("language", "en"),
        split=row.get("split"),
        facts={int(turn): tuple(facts) for turn, facts in row.get("facts", {}).items()},
        group=row.get("group"),
        background=row.get("background"),
        personas={speaker: tuple(lines) for speaker, lines in row.get("personas", {}).items()},
    )


def find_faults(row: Any, root: Path, where: str) -> Iterator[str]:
    """Yield a message for everything in a decoded line that is not as docs/data.md says; arguments as above."""
    if not isinstance(row, dict):
        yield f"{where}: want a JSON object with 'id' and 'turns'"
        return
    yield from _unknown_keys(row, {entry.name for entry in fields(Dialogue)}, where)
    if not _is_text(row.get("id")):
        yield f"{where}: 'id' must be a non-empty string"
    if not _is_text(row.get("language", "en")):
        yield f"{where}: 'language' must be a string such as 'en'"
    yield from _optional_text_faults(row, ("group", "background"), where)
    yield from _personas_faults(row.get("personas", {}), where)
    split = row.get("split")
    if split is not None and split not in SPLITS:
        yield f"{where}: 'split' is {split!r}, want one of {', '.join(SPLITS)}"
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        yield f"{where}: 'turns' must be a non-empty list"
        return
    for index, turn in enumerate(turns):
        yield from _turn_faults(turn, root, f"{where}: turn {index}")
    yield from _facts_faults(row.get("facts", {}), len(turns), where)


def write_dialogues(path: str | Path, dialogues: Iterable[Dialogue]) -> int:
    """Write dialogues as JSONL, atomically, and return how many.

    Clip paths are written relative to the file's folder.

    Raises:
        DataError: a clip lies outside that folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for dialogue in dialogues:
            row = dialogue_to_json(dialogue, Path(os.path.realpath(path.parent)))
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def dialogue_to_json(dialogue: Dialogue, root: Path) -> dict[str, Any]:
    """Return the JSON object of a dialogue, leaving out what is absent."""
    row: dict[str, Any] = {"id": dialogue.id, "language": dialogue.language}
    if dialogue.split is not None:
        row["split"] = dialogue.split
    if dialogue.facts:
        row["facts"] = {str(turn): list(facts) for turn, facts in dialogue.facts.items()}
    for key in ("group", "background"):
        if getattr(dialogue, key) is not None:
            row[key] = getattr(dialogue, key)
    if dialogue.personas:
        row["personas"] = {speaker: list(lines) for speaker, lines in dialogue.personas.items()}
    row["turns"] = [_turn_to_json(turn, root, dialogue.id) for turn in dialogue.turns]
    return row


def _turn_faults(row: Any, root: Path, where: str) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"{where}: want an object with 'speaker' and 'text'"
        return
    yield from _unknown_keys(row, {entry.name for entry in fields(Turn)}, where)
    if row.get("speaker") not in ("user", "assistant"):
        yield f"{where}: 'speaker' is {row.get('speaker')!r}, want 'user' or 'assistant'"
    if not _is_text(row.get("text")):
        yield f"{where}: 'text' is empty; write the words or drop the turn"
    yield from _optional_text_faults(row, ("name", "strategy", "description", "labelled_by"), where)
    emotion = row.get("emotion")
    if emotion is not None and not isinstance(emotion, str):
        yield f"{where}: 'emotion' must be a string"
    elif emotion is not None:
        try:
            parse_emotion(emotion)
        except UnknownEmotionError as error:
            yield f"{where}: {error}"
    elif row.get("labelled_by") is not None:
        yield f"{where}: 'labelled_by' names who gave the emotion, but there is none; leave it out"
    if row.get("clip") is not None:
        yield from _clip_faults(row["clip"], root, where)


def _clip_faults(row: Any, root: Path, where: str) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"{where}: 'clip' must be an object with 'audio' and/or 'video'"
        return
    yield from _unknown_keys(row, {"audio", "video", "start_s", "end_s"}, where)
    start_s, end_s = row.get("start_s", 0.0), row.get("end_s")
    if not _is_time(start_s) or start_s < 0:
        yield f"{where}: 'start_s' is {start_s!r}, want seconds >= 0"
    elif end_s is not None and not (_is_time(end_s) and end_s > start_s):
        yield f"{where}: 'end_s' is {end_s!r}, want > 'start_s'"
    if row.get("audio") is None and row.get("video") is None:
        yield f"{where}: 'clip' has neither 'audio' nor 'video'; leave it out"
    for kind in ("audio", "video"):
        if row.get(kind) is not None:
            yield from _path_faults(row[kind], root, f"{where}: {kind}")


def _path_faults(value: Any, root: Path, where: str) -> Iterator[str]:
    if not _is_text(value) or "\0" in value:
        yield f"{where}: must be a relative path"
        return
    try:
        real = Path(os.path.realpath(root / value))
        is_file = real.is_file()
    except OSError:  # a name longer than the file system allows
        real, is_file = root, False
    if os.path.isabs(value) or not real.is_relative_to(root):
        yield (
            f"{where}: {value!r} leaves the folder of the dialogues file; "
            "put the media below it and write a relative path"
        )
    elif not is_file:
        yield f"{where}: {value!r} does not exist; restore the file or remove it from the clip"


def _facts_faults(row: Any, num_turns: int, where: str) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"{where}: 'facts' must map a turn number to a list of strings"
        return
    turns = {str(turn) for turn in range(num_turns)}
    for key, values in row.items():
        if key not in turns:
            yield f"{where}: 'facts' names turn {key!r}, but there are {num_turns} turns counted from 0"
        if not isinstance(values, list) or not all(_is_text(value) for value in values):
            yield f"{where}: 'facts' of turn {key!r} must be a list of non-empty strings"


def _optional_text_faults(row: dict[str, Any], keys: tuple[str, ...], where: str) -> Iterator[str]:
    for key in keys:
        if row.get(key) is not None and not _is_text(row[key]):
            yield f"{where}: {key!r} must be a non-empty string; leave it out where it is not known"


def _personas_faults(row: Any, where: str) -> Iterator[str]:
    if not isinstance(row, dict) or not set(row) <= {"user", "assistant"}:
        yield f"{where}: 'personas' must map 'user' or 'assistant' to a list of sentences"
        return
    for speaker, lines in row.items():
        if not isinstance(lines, list) or not all(_is_text(line) for line in lines):
            yield f"{where}: 'personas' of the {speaker} must be a list of non-empty strings"


def _make_turn(row: dict[str, Any], root: Path) -> Turn:
    """Build a turn of a row that has no faults."""
    clip, emotion = row.get("clip"), row.get("emotion")
    return Turn(
        speaker=row["speaker"],
        text=row["text"].strip(),
        emotion=None if emotion is None else parse_emotion(emotion),
        clip=None if clip is None else _make_clip(clip, root),
        **{key: row.get(key) for key in ("name", "strategy", "description", "labelled_by")},
    )


def _make_clip(row: dict[str, Any], root: Path) -> Clip:
    audio, video = (
        None if row.get(kind) is None else Path(os.path.realpath(root / row[kind])) for kind in ("audio", "video")
    )
    end_s = row.get("end_s")
    return Clip(audio, video, float(row.get("start_s", 0.0)), None if end_s is None else float(end_s))


def _turn_to_json(turn: Turn, root: Path, dialogue_id: str) -> dict[str, Any]:
    row = {key: value for key, value in asdict(turn).items() if value is not None and key != "clip"}
    if turn.clip is not None:
        row["clip"] = _clip_to_json(turn.clip, root, dialogue_id)
    return row


def _clip_to_json(clip: Clip, root: Path, dialogue_id: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for kind, path in (("audio", clip.audio), ("video", clip.video)):
        if path is None:
            continue
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(root):
            raise DataError(f"dialogue {dialogue_id!r}: {path} lies outside {root}; copy the media below that folder")
        row[kind] = real.relative_to(root).as_posix()
    if clip.start_s > 0:
        row["start_s"] = clip.start_s
    if clip.end_s is not None:
        row["end_s"] = clip.end_s
    return row


def load_line(raw: bytes, where: str) -> Any:
    """Decode one line of a dialogues file.

    Raises:
        DataError: it is not UTF-8 or not JSON.
    """
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8; convert the file with `iconv -t UTF-8`") from None
    except (ValueError, RecursionError) as error:  # ValueError also of a number with thousands of digits
        raise DataError(f"{where}: not JSON ({error}); write one JSON object a line") from None


def _is_text(value: Any) -> bool:
    """Tell whether a value is a string with something in it that UTF-8 can hold (JSON can escape what it cannot)."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9  # also false for NaN


def _unknown_keys(row: dict[str, Any], known: set[str], where: str) -> Iterator[str]:
    unknown = sorted(set(row) - known)
    if unknown:
        yield f"{where}: unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}"

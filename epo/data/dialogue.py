"""Dialogue, Turn and Clip: the interchange format every corpus reader writes and every stage reads, as JSONL."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
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
    """One utterance: who spoke, the words, and if known the emotion and the clip."""

    speaker: Speaker
    text: str
    emotion: Emotion | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class Dialogue:
    """A validated conversation.

    `facts` holds, per index of an assistant turn, the strings a good reply must contain; the built-in corpus
    fills it for evaluation, other corpora leave it empty. `split` is None until a split is assigned.
    """

    id: str
    turns: tuple[Turn, ...]
    language: str = "en"
    split: Split | None = None
    facts: dict[int, tuple[str, ...]] = field(default_factory=dict)


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
            dialogue = parse_dialogue(_load_json(raw, where), root, where)
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
    _require(isinstance(row, dict), where, "want a JSON object with 'id' and 'turns'")
    _refuse_unknown(row, {"id", "turns", "language", "split", "facts"}, where)
    _require(isinstance(row.get("id"), str) and row["id"] != "", where, "'id' must be a non-empty string")
    turns = row.get("turns")
    _require(isinstance(turns, list) and len(turns) > 0, where, "'turns' must be a non-empty list")
    language = row.get("language", "en")
    _require(isinstance(language, str), where, "'language' must be a string such as 'en'")
    split = row.get("split")
    _require(split is None or split in SPLITS, where, f"'split' is {split!r}, want one of {', '.join(SPLITS)}")
    assert isinstance(turns, list)
    return Dialogue(
        id=row["id"],
        turns=tuple(_parse_turn(turn, root, f"{where}: turn {index}") for index, turn in enumerate(turns)),
        language=language,
        split=split,
        facts=_parse_facts(row.get("facts", {}), len(turns), where),
    )


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
    row["turns"] = [_turn_to_json(turn, root, dialogue.id) for turn in dialogue.turns]
    return row


def _parse_turn(row: Any, root: Path, where: str) -> Turn:
    _require(isinstance(row, dict), where, "want an object with 'speaker' and 'text'")
    _refuse_unknown(row, {"speaker", "text", "emotion", "clip"}, where)
    speaker = row.get("speaker")
    _require(speaker in ("user", "assistant"), where, f"'speaker' is {speaker!r}, want 'user' or 'assistant'")
    text = row.get("text")
    _require(
        isinstance(text, str) and text.strip() != "",
        where,
        "'text' is empty; write the words or drop the turn",
    )
    emotion = row.get("emotion")
    if emotion is not None:
        _require(isinstance(emotion, str), where, "'emotion' must be a string")
        try:
            emotion = parse_emotion(emotion)
        except UnknownEmotionError as error:
            raise DataError(f"{where}: {error}") from None
    clip = row.get("clip")
    return Turn(
        speaker=speaker,
        text=text.strip(),
        emotion=emotion,
        clip=None if clip is None else _parse_clip(clip, root, where),
    )


def _parse_clip(row: Any, root: Path, where: str) -> Clip:
    _require(isinstance(row, dict), where, "'clip' must be an object with 'audio' and/or 'video'")
    _refuse_unknown(row, {"audio", "video", "start_s", "end_s"}, where)
    start_s, end_s = row.get("start_s", 0.0), row.get("end_s")
    _require(_is_time(start_s) and start_s >= 0, where, f"'start_s' is {start_s!r}, want seconds >= 0")
    _require(
        end_s is None or (_is_time(end_s) and end_s > start_s),
        where,
        f"'end_s' is {end_s!r}, want > 'start_s'",
    )
    audio, video = (_media_path(row.get(kind), root, f"{where}: {kind}") for kind in ("audio", "video"))
    _require(audio is not None or video is not None, where, "'clip' has neither 'audio' nor 'video'; leave it out")
    return Clip(audio, video, float(start_s), None if end_s is None else float(end_s))


def _media_path(value: Any, root: Path, where: str) -> Path | None:
    if value is None:
        return None
    _require(isinstance(value, str) and value != "" and "\0" not in value, where, "must be a relative path")
    real = Path(os.path.realpath(root / value))
    _require(
        not os.path.isabs(value) and real.is_relative_to(root),
        where,
        f"{value!r} leaves the folder of the dialogues file; put the media below it and write a relative path",
    )
    _require(real.is_file(), where, f"{value!r} does not exist; restore the file or remove it from the clip")
    return real


def _parse_facts(row: Any, num_turns: int, where: str) -> dict[int, tuple[str, ...]]:
    _require(isinstance(row, dict), where, "'facts' must map a turn number to a list of strings")
    facts: dict[int, tuple[str, ...]] = {}
    for key, values in row.items():
        is_turn = key.isdecimal() and int(key) < num_turns
        _require(is_turn, where, f"'facts' names turn {key!r}, but there are {num_turns} turns counted from 0")
        is_list = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
        _require(is_list, where, f"'facts' of turn {key} must be a list of non-empty strings")
        facts[int(key)] = tuple(values)
    return facts


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


def _load_json(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8; convert the file with `iconv -t UTF-8`") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); write one JSON object a line") from None


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9  # also false for NaN


def _refuse_unknown(row: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(row) - known)
    _require(
        not unknown,
        where,
        f"unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}",
    )


def _require(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise DataError(f"{where}: {message}")

"""Dialogue, Turn and Clip: the interchange format every corpus reader writes and every stage reads, as JSONL."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from epo.data.characters import without_invisible
from epo.data.dialogue_format import DialogueFormat
from epo.data.findings import DataError, Findings, StopAtFault
from epo.data.lines import read_lines
from epo.emotions import Emotion, Vad

Speaker = Literal["user", "assistant"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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
    where a person did. `vad` is how people rated what was heard and seen: valence, arousal and dominance, each in
    [-1, 1].
    """

    speaker: Speaker
    text: str
    emotion: Emotion | None = None
    clip: Clip | None = None
    name: str | None = None
    strategy: str | None = None
    description: str | None = None
    labelled_by: str | None = None
    vad: Vad | None = None


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


def with_halves(turn: Turn, audio: Path | None, video: Path | None) -> Turn:
    """Return a turn that has a clip with these halves, and no clip where neither is left."""
    if turn.clip is None or (audio is None and video is None):
        return replace(turn, clip=None)
    return replace(turn, clip=replace(turn.clip, audio=audio, video=video))


def read_dialogues(path: str | Path, findings: Findings | None = None) -> Iterator[Dialogue]:
    """Yield the dialogues of a JSONL file one at a time.

    Args:
        path: the file.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: the file is missing; or a line is malformed, an id repeats, an emotion is unknown, or a clip is
            absent or leaves the file's folder, and `findings` says to stop. The message starts with `path:line`.
    """
    for _, dialogue in scan_dialogues(path, StopAtFault() if findings is None else findings):
        yield dialogue


def scan_dialogues(path: str | Path, findings: Findings) -> Iterator[tuple[str, Dialogue]]:
    """Yield (`path:line`, what is usable of the dialogue) of a JSONL file: the one reader that all others call.

    Raises:
        DataError: the file is missing; or a fault, and `findings` says to stop.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with `python launch/data.py import`, or see docs/data.md")
    form = DialogueFormat(Path(os.path.realpath(path.parent)), findings)
    first: dict[str, str] = {}
    for where, row in read_lines(path, findings):
        sound = form.read(row, where)
        if sound is None:
            continue
        name = sound["id"]
        key = without_invisible(name)
        if key in first:
            line = first[key].rpartition(":")[2]
            place = f"{where}: dialogue id {name!r} appears twice, first in line {line}"
            findings.fault("dialogue comes twice", place, "give each its own id")
            continue
        first[key] = where
        yield where, _make_dialogue(sound)


def parse_dialogue(row: Any, root: Path, where: str) -> Dialogue:
    """Turn one decoded JSON object into a `Dialogue`.

    Args:
        row: the decoded line.
        root: real path of the folder the media paths are relative to.
        where: `path:line`, put before every message.

    Raises:
        DataError: anything in the row is not as docs/data.md says.
    """
    sound = DialogueFormat(root, StopAtFault()).read(row, where)
    assert sound is not None  # or there was a fault
    return _make_dialogue(sound)


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
    try:
        with partial.open("w", encoding="utf-8") as out:
            for dialogue in dialogues:
                row = dialogue_to_json(dialogue, Path(os.path.realpath(path.parent)))
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
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


def _make_dialogue(sound: dict[str, Any]) -> Dialogue:
    return Dialogue(**{**sound, "turns": tuple(map(_make_turn, sound["turns"]))})


def _make_turn(sound: dict[str, Any]) -> Turn:
    clip = sound.get("clip")
    if clip is None:
        return Turn(**sound)
    return Turn(**{**sound, "clip": Clip(**clip)})


def _turn_to_json(turn: Turn, root: Path, dialogue_id: str) -> dict[str, Any]:
    row = {key: value for key, value in vars(turn).items() if value is not None and key != "clip"}
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


__all__ = [
    "SPLITS",
    "Clip",
    "DataError",
    "Dialogue",
    "Speaker",
    "Split",
    "Turn",
    "dialogue_to_json",
    "parse_dialogue",
    "read_dialogues",
    "scan_dialogues",
    "with_halves",
    "write_dialogues",
]

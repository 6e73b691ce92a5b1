"""Side files: machine-made material about turns, a JSON line each, keyed by the dialogue's id and the turn's number."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import DataError, Findings, StopAtFault
from epo.data.lines import read_lines
from epo.data.pointers import Pointers
from epo.files import write_whole

Place = tuple[str, int]
"""A dialogue's id and a turn's index in it, from 0."""

FieldReader = Callable[[Any, str, str, Findings], Any]
"""Returns a field's value made sound, or None after a fault, from: value, its name quoted, `path:line`, findings."""

TurnChange = Callable[[Turn, dict[str, Any], str, Findings], Turn]
"""Returns a turn with the fields that a side file says of it, from: turn, fields, its place in words, findings."""

_POINTER = ("dialogue_id", "turn")


@dataclass(frozen=True)
class SideKind:
    """One kind of material.

    Attributes:
        name: in the singular, for messages, and for the key `kind` of a line: "description".
        fields: what a line holds of it, all of it needed: a reader for each key.
        more: what a line may hold besides, such as where it comes from.
    """

    name: str
    fields: Mapping[str, FieldReader]
    more: Mapping[str, FieldReader] = field(default_factory=dict)


def read_side_file(
    path: str | Path, kind: SideKind, dialogues: Mapping[str, Dialogue], findings: Findings | None = None
) -> dict[Place, dict[str, Any]]:
    """Read and validate a side file: `{"dialogue_id": "d1", "turn": 2, ...}`, one line a turn.

    A line may say its `kind`, so that one file is not taken for another. A line whose dialogue is not there is left out
    with a note, as after dialogues were dropped (`Pointers`).

    Args:
        path: JSON lines.
        kind: of its material.
        dialogues: that it points into, by id.
        findings: hears of notes and faults; None stops at the first fault.

    Returns:
        The fields of each place.

    Raises:
        DataError: the file is missing or holds nothing; or half of its lines or more belong to other dialogues, a line
            points at a turn that is not there, comes twice, has an unknown key or lacks one, or is of another kind, and
            `findings` says to stop. The message starts with `path:line`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; want {kind.name}s, a JSON object a line (docs/data.md)")
    form = _SideFormat(kind, dialogues, StopAtFault() if findings is None else findings)
    found: dict[Place, dict[str, Any]] = {}
    for where, row in read_lines(path, form.findings):
        place = form.place(row, where)
        sound = None if place is None else form.fields(row, where)
        if place is not None and sound is not None:
            found[place] = sound
    form.pointers.finish()
    if not found:
        raise DataError(f"{path}: holds no {kind.name} that can be used; want a JSON object a line (docs/data.md)")
    return found


def with_side_file(
    dialogues: Sequence[Dialogue],
    path: str | Path,
    kind: SideKind,
    change: TurnChange,
    findings: Findings | None = None,
) -> list[Dialogue]:
    """Return dialogues with the material of a side file on the turns it names; the others stay.

    Args:
        dialogues: that the file points into.
        path: of the side file.
        kind: of its material.
        change: puts the material on a turn.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: as `read_side_file`.
    """
    findings = StopAtFault() if findings is None else findings
    found = read_side_file(path, kind, {dialogue.id: dialogue for dialogue in dialogues}, findings)
    changed = []
    for dialogue in dialogues:
        turns = list(dialogue.turns)
        for number, turn in enumerate(turns):
            if (dialogue.id, number) in found:
                place = f"{path}: dialogue {dialogue.id!r}, turn {number}"
                turns[number] = change(turn, found[dialogue.id, number], place, findings)
        changed.append(replace(dialogue, turns=tuple(turns)))
    return changed


def write_side_file(path: str | Path, kind: SideKind, material: Mapping[Place, Mapping[str, Any]]) -> int:
    """Write a side file, whole or not at all, in the order of `material`, and return the number of lines."""
    rows = (
        {"dialogue_id": dialogue, "turn": turn, "kind": kind.name, **fields}
        for (dialogue, turn), fields in material.items()
    )
    write_whole(Path(path), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(material)


class _SideFormat:
    """Reads decoded lines of one file; where findings return from a fault, the line is left out."""

    def __init__(self, kind: SideKind, dialogues: Mapping[str, Dialogue], findings: Findings) -> None:
        self.findings, self.pointers = findings, Pointers(dialogues, kind.name, findings)
        self._kind = kind
        self._seen: dict[Place, str] = {}

    def place(self, row: dict[str, Any], where: str) -> Place | None:
        """Return the turn that a line is about, None where it cannot be used."""
        self.pointers.count()
        name, known = self._kind.name, {*_POINTER, "kind", *self._kind.fields, *self._kind.more}
        unknown = sorted(row.keys() - known)
        missing = [key for key in (*_POINTER, *self._kind.fields) if row.get(key) is None]
        if row.get("kind") not in (None, name):
            place = f"{where}: 'kind' is {row['kind']!r:.80}, want {name!r}"
            self.findings.fault("line of another kind", place, "name the file that holds it")
            return None
        if unknown:
            names = ", ".join(f"{key!r:.80}" for key in unknown[:8])
            place = f"{where}: unknown key {names}; known are {', '.join(sorted(known))}"
            self.findings.fault("unknown key", place, "take it out")
        if missing:
            place = f"{where}: {', '.join(map(repr, missing))} missing"
            self.findings.fault(f"{name} without what it needs", place, "see docs/data.md")
            return None
        dialogue = self.pointers.find(row["dialogue_id"], where)
        return None if dialogue is None else self._turn(dialogue, row["turn"], where)

    def fields(self, row: dict[str, Any], where: str) -> dict[str, Any] | None:
        """Return the material of a line, None where a field of it cannot be used."""
        given = {key: read for key, read in self._kind.more.items() if row.get(key) is not None}
        readers = {**self._kind.fields, **given}
        sound = {key: read(row[key], f"{key!r}", where, self.findings) for key, read in readers.items()}
        return None if None in sound.values() else sound

    def _turn(self, dialogue: Dialogue, turn: Any, where: str) -> Place | None:
        if not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < len(dialogue.turns):
            place = (
                f"{where}: dialogue {dialogue.id!r} has no turn {turn!r:.80} (turns are counted from 0; there are "
                f"{len(dialogue.turns)})"
            )
            self.findings.fault(f"{self._kind.name} of a turn that is not there", place, "correct the number")
            return None
        at = (dialogue.id, turn)
        if at in self._seen:
            place = f"{where}: turn {turn} of dialogue {dialogue.id!r} has one already, in {self._seen[at]}"
            self.findings.fault(f"{self._kind.name} that comes twice", place, "keep the one that is meant")
            return None
        self._seen[at] = where
        return at


__all__ = ["FieldReader", "Place", "SideKind", "TurnChange", "read_side_file", "with_side_file", "write_side_file"]

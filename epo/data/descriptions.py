"""Descriptions from a side file: in a sentence, how a turn is spoken and what the face does."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from epo.data.characters import read_text
from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import Findings
from epo.data.replies import Reply
from epo.data.side_files import SideKind, with_side_file


def _read_sentence(value: Any, what: str, where: str, findings: Findings) -> str | None:
    return read_text(value, what, "description without words", where, findings)


def _read_number(value: Any, what: str, where: str, findings: Findings) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    findings.fault("description whose evidence is no number", f"{where}: {what} is {value!r:.80}", "want a number")
    return None


def _read_evidence(value: Any, what: str, where: str, findings: Findings) -> dict[str, float] | None:
    if not isinstance(value, dict):
        place = f"{where}: {what} is {value!r:.80}"
        findings.fault("description whose evidence is no number", place, "want numbers by name")
        return None
    read = {name: _read_number(number, f"{what} {name!r}", where, findings) for name, number in value.items()}
    return None if None in read.values() else {name: number for name, number in read.items() if number is not None}


def _read_times(value: Any, what: str, where: str, findings: Findings) -> list[float] | None:
    if not isinstance(value, list):
        findings.fault("description whose times are no list", f"{where}: {what} is {value!r:.80}", "want seconds")
        return None
    read = [_read_number(number, what, where, findings) for number in value]
    return None if None in read else [number for number in read if number is not None]


DESCRIPTION = SideKind(
    "description",
    {"description": _read_sentence},
    {
        "source": _read_sentence,
        "peak_s": _read_number,
        "evidence": _read_evidence,
        "model": _read_sentence,
        "prompt": _read_sentence,
        "frames_s": _read_times,
    },
)


def with_descriptions(
    dialogues: Sequence[Dialogue], path: str | Path, findings: Findings | None = None
) -> list[Dialogue]:
    """Return dialogues with the descriptions of a side file on their turns.

    A turn that has another description of its own gets the file's, with a note.

    Args:
        dialogues: that the file points into.
        path: lines of `{"dialogue_id", "turn", "description"}`.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: as `read_side_file`.
    """
    return with_side_file(dialogues, path, DESCRIPTION, _describe, findings)


def _describe(turn: Turn, line: dict[str, Any], place: str, findings: Findings) -> Turn:
    told = line["description"]
    if turn.description not in (None, told):
        findings.note("turn with a description of its own: the side file's is taken", place)
    return replace(turn, description=told)


def with_traced_descriptions(dialogues: Sequence[Dialogue], path: str | Path) -> list[Dialogue]:
    """Return dialogues whose descriptions say in brackets what made them, for people who look at them.

    Args:
        dialogues: that the file points into.
        path: as of `with_descriptions`.

    Raises:
        DataError: as `read_side_file`.
    """
    return with_side_file(dialogues, path, DESCRIPTION, _describe_traced)


def _describe_traced(turn: Turn, line: dict[str, Any], place: str, findings: Findings) -> Turn:
    parts = [line[name] for name in ("source", "model") if name in line]
    parts += [f"prompt {line['prompt']}"] if "prompt" in line else []
    parts += [f"frames at {', '.join(f'{time_s:.2f}' for time_s in line['frames_s'])} s"] if "frames_s" in line else []
    parts += [f"peak at {line['peak_s']:.2f} s"] if "peak_s" in line else []
    told = line["description"]
    return replace(turn, description=f"{told} ({', '.join(parts)})" if parts else told)


def repeated_descriptions(dialogues: Iterable[Dialogue], question: str) -> list[Reply]:
    """Return, of each described turn, the reply that repeats its description, to a question that shows it.

    A language model that cannot repeat a description which it reads has no way to give one of what it sees.

    Args:
        dialogues: with descriptions on their turns.
        question: the user's words; the prompt part `description` stands before them.
    """
    return [
        Reply(
            dialogue.id,
            number + 1,
            (),
            Turn("user", question, description=turn.description),
            turn.description,
            None,
            dialogue.language,
            dialogue.split,
        )
        for dialogue in dialogues
        for number, turn in enumerate(dialogue.turns)
        if turn.description is not None
    ]


__all__ = ["DESCRIPTION", "repeated_descriptions", "with_descriptions", "with_traced_descriptions"]

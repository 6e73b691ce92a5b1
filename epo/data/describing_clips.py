"""Describe the clips of dialogues: a sentence a turn with a picture, and how many get none, with the reasons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from compressor.progress import show_progress
from epo.data.describers.describer import Describe, Left
from epo.data.dialogue import SPLITS, Dialogue
from epo.data.side_files import Place


@dataclass
class Descriptions:
    """What was described.

    Attributes:
        lines: the fields of a side file's lines (`epo.data.descriptions`), by place.
        described: how many clips of each split, None for dialogues without one.
        left_out: how many clips got none, by reason.
        first: the first place of each reason.
        left: every clip that got none: its dialogue and turn, the reason, and what stands there where more is known.
    """

    lines: dict[Place, dict[str, Any]] = field(default_factory=dict)
    described: Counter[str | None] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the counts."""
        splits = {split: self.described[split] for split in SPLITS}
        return {
            "described": splits | {"no split": self.described[None]},
            "left_out": dict(self.left_out.most_common()),
            "first_left_out": self.first,
        }

    def summary(self) -> list[str]:
        """Return a line of what was described, and one for each reason why a clip was not."""
        parts = [f"{count} {split or 'of no split'}" for split, count in self.described.items()]
        lines = [f"described: {', '.join(parts) or 'no clip'}"]
        for reason, count in self.left_out.most_common():
            lines.append(f"left out: {count} x {reason}" + (f" ({self.first[reason]})" if reason in self.first else ""))
        return lines


def describe_clips(dialogues: Sequence[Dialogue], describe: Describe, source: str) -> Descriptions:
    """Describe every clip with a picture.

    Args:
        dialogues: whose turns.
        describe: of a `Describer`.
        source: its name, which each line says.
    """
    found = Descriptions()
    for dialogue in show_progress(dialogues, "describe", "dialogues", total=len(dialogues)):
        for number, turn in enumerate(dialogue.turns):
            if turn.clip is None:
                continue
            said = _without_picture(dialogue, number) if turn.clip.video is None else describe(dialogue, number)
            if isinstance(said, Left):
                found.left_out[said.reason] += 1
                found.left.append({"dialogue_id": dialogue.id, "turn": number, "reason": said.reason})
                if said.place:
                    found.left[-1]["place"] = said.place
                    found.first.setdefault(said.reason, said.place)
                continue
            line: dict[str, Any] = {"description": said.text, "source": source}
            line |= {} if said.peak_s is None else {"peak_s": round(said.peak_s, 3)}
            line |= said.trace
            line |= {"evidence": {n: round(v, 4) for n, v in said.evidence.items()}} if said.evidence else {}
            found.lines[dialogue.id, number] = line
            found.described[dialogue.split] += 1
    return found


def _without_picture(dialogue: Dialogue, turn: int) -> Left:
    return Left("clip without a picture", f"dialogue {dialogue.id!r}, turn {turn}")


__all__ = ["Descriptions", "describe_clips"]

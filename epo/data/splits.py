"""Splits: what is asked of them, the keys by which dialogues stay together, and the record that keeps them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from epo.data.dialogue import SPLITS, DataError, Split
from epo.files import write_whole

SplitBy = Literal["group", "dialogue"]
_METHOD = "quota-1"  # of epo/data/split_draw.py; another number where the same corpus would be drawn otherwise


class SplitError(ValueError):
    """Shares that are no shares."""


@dataclass(frozen=True)
class SplitShares:
    """What part of the dialogues is held out; the rest trains.

    Attributes:
        validation: share of the dialogues, in [0, 1].
        test: the same.
        seed: another one gives another draw.
        by: what may not cross: the `group` of a dialogue, where it has one, or the dialogue alone.
        min_dialogues: how many dialogues validation and test have at least, where the corpus is large enough; not
            asked of a split whose share is 0.
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    by: SplitBy = "group"
    min_dialogues: int = 1

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or not self.validation + self.test < 1:
            raise SplitError(
                f"validation_share {self.validation} and test_share {self.test}: want two numbers >= 0 "
                "that leave something to train on"
            )
        if self.min_dialogues < 0:
            raise SplitError(f"min_split {self.min_dialogues}: want 0 or more dialogues")

    @property
    def shares(self) -> dict[Split, float]:
        """The share of each split; the three sum to 1."""
        return {"train": 1 - self.validation - self.test, "validation": self.validation, "test": self.test}

    def key(self, dialogue_id: str, group: str | None) -> tuple[str, str]:
        """Return what a dialogue is split by: the kind ("groups" or "dialogues") and the name."""
        return ("groups", group) if self.by == "group" and group is not None else ("dialogues", dialogue_id)


def place_of(name: str, seed: int) -> float:
    """Return a number that looks uniform in [0, 1), and depends on the name and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True)
class Splits:
    """The split of everything in a corpus, decided.

    Attributes:
        shares: what was asked.
        groups: split of each group, for its dialogues without a split of the corpus's own.
        dialogues: split of each dialogue that has neither a group nor a split of the corpus's own.
        notes: what a user should know of them, a line each.
    """

    shares: SplitShares
    groups: dict[str, Split] = field(default_factory=dict)
    dialogues: dict[str, Split] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, dialogue_id: str, group: str | None, own: Split | None) -> Split:
        """Return the split of a dialogue that was among those decided on; the corpus's own comes first."""
        if own is not None:
            return own
        kind, name = self.shares.key(dialogue_id, group)
        return (self.groups if kind == "groups" else self.dialogues)[name]

    def write(self, path: Path) -> None:
        """Write the record, from which `read_splits` takes what a corpus that has grown keeps."""
        row = {
            **_asked(self.shares),
            "groups": dict(sorted(self.groups.items())),
            "dialogues": dict(sorted(self.dialogues.items())),
            "notes": list(self.notes),
        }
        write_whole(path, json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def read_splits(path: Path, shares: SplitShares) -> Splits | None:
    """Return the splits that an earlier import recorded, None where there are none or something else was asked of them.

    Raises:
        DataError: the file is no such record.
    """
    try:
        row = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not JSON; delete it to draw the splits anew") from None
    if not isinstance(row, dict) or not all(_is_record(row.get(kind)) for kind in ("groups", "dialogues")):
        raise DataError(f"{path}: want 'groups' and 'dialogues' with a split each; delete it to draw them anew")
    if {key: row.get(key) for key in _asked(shares)} != _asked(shares):
        return None
    return Splits(shares, row["groups"], row["dialogues"])


def _asked(shares: SplitShares) -> dict[str, Any]:
    return {"method": _METHOD, **asdict(shares)}


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping) and all(split in SPLITS for split in value.values())


__all__ = [
    "SplitBy",
    "SplitError",
    "SplitShares",
    "Splits",
    "place_of",
    "read_splits",
]

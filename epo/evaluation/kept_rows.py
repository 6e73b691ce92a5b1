"""Rows that an evaluation keeps as soon as they are there, so that an interrupted one goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epo.data.replies import Reply
from epo.evaluation.answers import file_name, write_replies
from epo.evaluation.scoring import PerReply
from epo.evaluation.suite import Answers
from epo.files import write_whole
from epo.ranks import of_first, rank


@dataclass(frozen=True)
class Made:
    """What a row is made from, as digests: another one of either, and what was kept is not taken up.

    Attributes:
        replies: of the system, the test and the settings of generation.
        numbers: of all that, and of what the replies are scored by.
    """

    replies: str
    numbers: str


@dataclass(frozen=True)
class ScoredRow:
    """The numbers of one row.

    Attributes:
        values: by key, as in report.json.
        per_reply: what means were taken of, by key of the column.
    """

    values: dict[str, Any]
    per_reply: dict[str, PerReply]


class KeptRows:
    """`NAME.jsonl`, what a row replied, and `NAME.row.json` beside it: what it was made from, and its numbers.

    The first rank reads and writes, and all ranks hear what it found.
    """

    def __init__(
        self, folder: Path, gold: Sequence[Reply], made: Callable[[str], Made], is_taken_up: bool = True
    ) -> None:
        """Keep rows in a folder.

        Args:
            folder: of the files.
            gold: the replies that are given.
            made: returns what the row of a name is made from.
            is_taken_up: whether what lies there is used again.
        """
        self._folder, self._gold, self._made, self._is_taken_up = folder, gold, made, is_taken_up

    def replies(self, name: str) -> tuple[list[str], list[str] | None] | None:
        """Return what a row replied, greedy and sampled; None where that is not there, or of something else."""
        return of_first(lambda: self._read_replies(name))

    def thoughts(self, name: str) -> list[str | None] | None:
        """Return what a row thought before its replies; None where it does not think, or nothing is kept of it."""
        return of_first(lambda: self._read_thoughts(name))

    def numbers(self, name: str) -> ScoredRow | None:
        """Return the numbers of a row; None where they are not there, or of something else."""
        return of_first(lambda: self._read_numbers(name))

    def keep_replies(self, answers: Answers) -> None:
        """Write what a row replied; numbers of other replies under its name are forgotten."""
        if rank() == 0:
            self._record(answers.name).unlink(missing_ok=True)
            write_replies(self._folder, answers, self._gold)
            self._write(answers.name, {})

    def keep_numbers(self, name: str, row: ScoredRow) -> None:
        """Write the numbers of a row whose replies are kept."""
        if rank() == 0:
            numbers = {"values": row.values, "per_reply": {key: asdict(kept) for key, kept in row.per_reply.items()}}
            self._write(name, {"numbers_from": self._made(name).numbers} | numbers)

    def _write(self, name: str, more: dict[str, Any]) -> None:
        kept = {"row": name, "replies_from": self._made(name).replies, "replies_sha256": self._digest(name)} | more
        write_whole(self._record(name), json.dumps(kept, ensure_ascii=False, default=_plain) + "\n")

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return the record of a row, if its replies are those that it is about."""
        if not self._is_taken_up:
            return None
        try:
            kept = json.loads(self._record(name).read_text(encoding="utf-8"))
            is_whole = kept["row"] == name and kept["replies_sha256"] == self._digest(name)
            return kept if is_whole and kept["replies_from"] == self._made(name).replies else None
        except (OSError, ValueError, LookupError, TypeError):
            return None  # of another version, cut off, or never written

    def _read_replies(self, name: str) -> tuple[list[str], list[str] | None] | None:
        if self._read(name) is None:
            return None
        rows = self._rows(name)
        is_sampled = all("sampled" in row for row in rows)
        return [row["reply"] for row in rows], [row["sampled"] for row in rows] if is_sampled else None

    def _read_thoughts(self, name: str) -> list[str | None] | None:
        rows = [] if self._read(name) is None else self._rows(name)
        return [row["thought"] for row in rows] if rows and all("thought" in row for row in rows) else None

    def _rows(self, name: str) -> list[dict[str, Any]]:
        lines = self._path(name).read_text(encoding="utf-8").split("\n")[:-1]  # other line ends may stand in a reply
        return [json.loads(line) for line in lines]

    def _read_numbers(self, name: str) -> ScoredRow | None:
        kept = self._read(name)
        if kept is None or kept.get("numbers_from") != self._made(name).numbers:
            return None
        return ScoredRow(kept["values"], {key: PerReply(**row) for key, row in kept["per_reply"].items()})

    def _path(self, name: str) -> Path:
        return self._folder / f"{file_name(name)}.jsonl"

    def _record(self, name: str) -> Path:
        return self._folder / f"{file_name(name)}.row.json"

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self._path(name).read_bytes()).hexdigest()


def _plain(value: Any) -> Any:
    """Return what JSON has no form for in one that it has: cells as mappings, numpy's numbers as Python's."""
    return value.tolist() if hasattr(value, "tolist") else asdict(value)


__all__ = ["KeptRows", "Made", "ScoredRow"]

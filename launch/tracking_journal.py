"""The journal of a stage: what is to be tracked, one JSON line each, written before anything is sent anywhere.

tracking.jsonl   lines are only ever added
tracking.sent    how far the store has taken them
"""

import contextlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from epo.files import write_whole

JOURNAL, SENT = "tracking.jsonl", "tracking.sent"
_MAX_SPILLED = 10_000


class Journal:
    """Lines waiting in a file, so that neither a server that is down nor a crash loses any.

    Where the disk takes no more, lines wait in memory, up to 10,000.
    """

    def __init__(self, folder: Path) -> None:
        """Open the journal of a folder, which may hold lines of earlier attempts that were never sent."""
        self.folder = folder
        self._spilled: deque[bytes] = deque(maxlen=_MAX_SPILLED)
        self._file: FileIO | None = None
        self._is_cut = self._ends_in_half_a_line()
        self._sent, self._files = self._read_sent()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line; the kernel has it when this returns."""
        self._spilled.append(json.dumps(entry).encode() + b"\n")
        with contextlib.suppress(OSError):
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = (self.folder / JOURNAL).open("ab", buffering=0)
            lines = (b"\n" if self._is_cut else b"") + b"".join(self._spilled)
            self._is_cut = self._file.write(lines) < len(lines)  # then the disk is full: all of them once more
            if not self._is_cut:
                self._spilled.clear()

    def unsent(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each line that was not sent, and where the one after it begins; half a line is passed over."""
        path, place = self.folder / JOURNAL, self._sent
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                place += len(line)
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and "kind" in entry:
                        yield entry, place

    def last(self, kind: str) -> dict[str, Any] | None:
        """Return the newest line of a kind, sent or not."""
        found = None
        path = self.folder / JOURNAL
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                found = entry if isinstance(entry, dict) and entry.get("kind") == kind else found
        return found

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of files whose lines are passed, but which the store did not take."""
        return tuple(self._files)

    def num_waiting(self) -> int:
        """Return how many lines and files the store has not taken."""
        return sum(1 for _ in self.unsent()) + len(self._spilled) + len(self._files)

    def mark(self, place: int | None = None, files: tuple[str, ...] | None = None) -> None:
        """Remember how far the store has taken the lines, and which files it has not."""
        self._sent = self._sent if place is None else place
        self._files = self._files if files is None else files
        with contextlib.suppress(OSError):  # then lines are sent again, and those that the store has left out
            write_whole(self.folder / SENT, json.dumps({"bytes": self._sent, "files": self._files}) + "\n")

    def _read_sent(self) -> tuple[int, tuple[str, ...]]:
        try:
            row = json.loads((self.folder / SENT).read_text(encoding="utf-8"))
            place, files = int(row["bytes"]), tuple(str(path) for path in row["files"])
            return (place, files) if place <= (self.folder / JOURNAL).stat().st_size else (0, ())
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ()

    def _ends_in_half_a_line(self) -> bool:
        try:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(-1, 2)
                return file.read() != b"\n"
        except OSError:  # there is none, or it is empty
            return False

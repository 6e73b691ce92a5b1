"""Findings: what a reader met that is not as it should be; who listens stops, collects, or counts and goes on."""

from collections import Counter
from typing import Protocol


class DataError(ValueError):
    """A fault in the user's data; the message names file, line or dialogue, and the remedy."""


class Findings(Protocol):
    """Who listens to a reader: the same reader serves training, `check` and `import`, which differ only in this."""

    def note(self, kind: str, where: str) -> None:
        """Take note of something odd that costs nothing."""
        ...

    def fault(self, kind: str, where: str, remedy: str) -> None:
        """Hear of something that cannot be used; after a return the reader leaves it out and goes on.

        Args:
            kind: what is wrong, in words that are the same for every such place.
            where: the place, and what stands there.
            remedy: what the user can do about it.
        """
        ...


class StopAtFault:
    """For training: the first fault ends the reading. Notes are counted."""

    def __init__(self) -> None:
        self.notes: Counter[str] = Counter()

    def note(self, kind: str, where: str) -> None:
        """Count it."""
        self.notes[kind] += 1

    def fault(self, kind: str, where: str, remedy: str) -> None:
        """Stop.

        Raises:
            DataError: always.
        """
        raise DataError(f"{where}; {remedy}")


class CollectFaults:
    """For `check`: every fault is kept as a message, every note as a count with its first places."""

    _MAX_PLACES = 5

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.notes: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def note(self, kind: str, where: str) -> None:
        """Count it, and keep the place of the first few."""
        self.notes[kind] += 1
        places = self.places.setdefault(kind, [])
        if len(places) < self._MAX_PLACES:
            places.append(where)

    def note_lines(self) -> list[str]:
        """Return a line for each of the places kept, and at the last one how many more there are."""
        lines = []
        for kind, places in self.places.items():
            more = self.notes[kind] - len(places)
            lines += [f"{place}: {kind}" for place in places]
            lines[-1] += f" ({more} more)" if more else ""
        return lines

    def fault(self, kind: str, where: str, remedy: str) -> None:
        """Keep it as the message that training would stop with."""
        self.faults.append(f"{where}; {remedy}")


__all__ = ["CollectFaults", "DataError", "Findings", "StopAtFault"]

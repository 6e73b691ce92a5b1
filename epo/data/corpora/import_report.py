"""ImportReport: what an import met that was not as it should be, counted by kind, with a few examples each."""

from collections import Counter
from typing import Any, Literal

from epo.data.dialogue import DataError

OnError = Literal["stop", "skip"]
_MAX_EXAMPLES = 5


class ImportReport:
    """Counts irregularities so that nothing is lost silently, in memory that does not grow with the corpus.

    A *note* is an irregularity that costs nothing (a gap in the numbering); a *fault* costs something (a row, a
    label, a clip). With `on_error="stop"` the first fault ends the import, with `"skip"` it is counted and what
    is broken is left out.
    """

    def __init__(self, on_error: OnError = "stop") -> None:
        self.on_error = on_error
        self.notes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def note(self, kind: str, where: str) -> None:
        """Count an irregularity that was survived whole."""
        self.notes[kind] += 1
        self._remember(kind, where)

    def fault(self, kind: str, where: str, remedy: str) -> None:
        """Count something that has to be left out, or stop for it.

        Args:
            kind: what is wrong, in words that are the same for every such row.
            where: file and line, or dialogue.
            remedy: what the user can do about it.

        Raises:
            DataError: `on_error` is "stop".
        """
        if self.on_error == "stop":
            raise DataError(f"{where}: {kind}; {remedy}, or leave such rows out with --on_error skip")
        self.faults[kind] += 1
        self._remember(kind, where)

    def as_json(self) -> dict[str, Any]:
        """Return the counts and examples for the corpus card."""
        return {
            "notes": dict(self.notes.most_common()),
            "faults": dict(self.faults.most_common()),
            "examples": self._examples,
        }

    def summary(self) -> list[str]:
        """Return one line a kind, faults first, to print at the end of an import."""
        lines = [f"left out: {count} x {kind}" for kind, count in self.faults.most_common()]
        return lines + [f"noted: {count} x {kind}" for kind, count in self.notes.most_common()]

    def _remember(self, kind: str, where: str) -> None:
        examples = self._examples.setdefault(kind, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(where)


__all__ = ["ImportReport", "OnError"]

"""Pointers: lines of other files that point into dialogues, and one rule for those whose dialogue is not there."""

from collections.abc import Mapping
from typing import Any

from epo.data.characters import read_text
from epo.data.dialogue import Dialogue
from epo.data.findings import Findings


class Pointers:
    """Finds the dialogues that the lines of one file point to.

    A line whose dialogue is not there is left out with a note, as after dialogues were dropped; where that is so for
    half of the lines or more, the file belongs to other data, which is a fault.
    """

    def __init__(self, dialogues: Mapping[str, Dialogue], what: str, findings: Findings) -> None:
        """Point into dialogues.

        Args:
            dialogues: by id.
            what: a line is called in messages, such as "pair".
            findings: hears of notes and faults.
        """
        self._dialogues, self._what, self._findings = dialogues, what, findings
        self._num_lines = 0
        self._num_strangers = 0
        self._first_stranger = ""

    def count(self) -> None:
        """Take note of a line, whatever it holds."""
        self._num_lines += 1

    def find(self, name: Any, where: str) -> Dialogue | None:
        """Return the dialogue of an id, None where there is none or it is no text."""
        what = self._what
        name = read_text(name, "'dialogue_id'", f"{what} without what it needs", where, self._findings)
        if name is None:
            return None
        dialogue = self._dialogues.get(name)
        if dialogue is None:
            place = f"{where}: dialogue {name!r:.80} is not in the dialogues file"
            self._findings.note(f"{what} of a dialogue that is not there: left out", place)
            self._first_stranger = place if self._num_strangers == 0 else self._first_stranger
            self._num_strangers += 1
        return dialogue

    def finish(self) -> None:
        """Report a fault where half of the lines or more belong to dialogues that are not there."""
        if self._num_strangers > 0 and 2 * self._num_strangers >= self._num_lines:
            place = f"{self._first_stranger}, as for {self._num_strangers} of {self._num_lines} {self._what}s"
            remedy = f"the {self._what}s belong to other data; name the files that match"
            self._findings.fault(f"{self._what}s of other dialogues", place, remedy)


__all__ = ["Pointers"]

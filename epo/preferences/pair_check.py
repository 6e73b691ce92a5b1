"""Checking pairs: every fault of a pairs file, by the reader that training uses."""

from pathlib import Path

from epo.data.checking import CheckResult, dialogues_file
from epo.data.dialogue import read_dialogues
from epo.data.findings import CollectFaults
from epo.preferences.pair import scan_pairs


def check_pairs(path: Path, dialogues: Path, result: CheckResult) -> int:
    """Add the faults and notes of a pairs file to the check of its dialogues, and return how many pairs are sound.

    Args:
        path: the pairs.
        dialogues: the file they point into, or its folder, which was checked before.
        result: of that check; while it holds faults the pairs are not read, because turns may still move.

    Raises:
        DataError: there is no such file.
    """
    if result.faults:
        result.notes.append(f"{path}:0: not checked; mend the faults of the dialogues first")
        return 0
    findings = CollectFaults()
    by_id = {dialogue.id: dialogue for dialogue in read_dialogues(dialogues_file(dialogues))}
    num_pairs = sum(1 for _ in scan_pairs(path, by_id, findings))
    if num_pairs == 0 and not findings.faults:
        findings.fault("no pair", f"{path}:0: holds no pair", "see report.json beside it for what was dropped and why")
    result.faults += findings.faults
    result.notes += findings.note_lines()
    return num_pairs


__all__ = ["check_pairs"]

"""PreferencePair: a reply and one that is worse in the same place, read from and written to JSONL."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from epo.data.characters import comparison_form
from epo.data.dialogue import DataError, Dialogue
from epo.data.findings import Findings, StopAtFault
from epo.data.lines import read_lines
from epo.emotions import Emotion
from epo.preferences.pair_format import PairFormat


@dataclass(frozen=True)
class PreferencePair:
    """Two replies to the same dialogue history and the same clip, one preferred: by its emotion, or by people.

    The pair points into a dialogue: the history is `dialogue.turns[:turn]` and the user's current turn is
    `turn - 1`. The emotions are None where nobody said them, as in human rankings. `source` says where the rejected
    reply or the ranking came from; `scores` holds what the filters measured.
    """

    dialogue_id: str
    turn: int
    chosen: str
    chosen_emotion: Emotion | None
    rejected: str
    rejected_emotion: Emotion | None
    source: str = "unnamed"
    scores: dict[str, float] = field(default_factory=dict)


def read_pairs(
    path: str | Path, dialogues: Mapping[str, Dialogue], findings: Findings | None = None
) -> list[PreferencePair]:
    """Read and validate a pairs file.

    Args:
        path: JSONL, one pair a line.
        dialogues: the dialogues the pairs point into, by id.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: the file is missing, holds no pair, or most of its pairs belong to other dialogues; or a line is
            malformed, its turn is no assistant turn after a user turn, a reply is empty, or both replies are the same,
            and `findings` says to stop. The message starts with `path:line`.
    """
    pairs = [pair for _, pair in scan_pairs(path, dialogues, StopAtFault() if findings is None else findings)]
    if not pairs:
        raise DataError(f"{path}: holds no pair; see report.json beside it for what was dropped and why")
    return pairs


def scan_pairs(
    path: str | Path, dialogues: Mapping[str, Dialogue], findings: Findings
) -> Iterator[tuple[str, PreferencePair]]:
    """Yield (`path:line`, pair) of a pairs file: the one reader that all others call.

    A pair whose dialogue is not there is left out with a note, as after dialogues were dropped; where that is so for
    half of the pairs or more, they belong to other data, which is a fault. A pair that comes twice, or the other way
    round too, is kept with a note: people may disagree.

    Raises:
        DataError: the file is missing; or a fault, and `findings` says to stop.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with `python launch/preferences.py`")
    form = PairFormat(dialogues, findings)
    for where, row in read_lines(path, findings):
        sound = form.read(row, where)
        if sound is not None:
            yield where, PreferencePair(**sound)
    form.finish()


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> int:
    """Write pairs as JSONL, atomically, and return how many."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for pair in pairs:
            row = {key: value for key, value in asdict(pair).items() if value is not None}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def is_same_text(first: str, second: str) -> bool:
    """Tell whether two replies are the same but for case, blanks, and characters without ink or of compatible form.

    Punctuation counts: `Great!` and `Great...` are said in different emotions.
    """
    return comparison_form(first) == comparison_form(second)


__all__ = ["PreferencePair", "is_same_text", "read_pairs", "scan_pairs", "write_pairs"]

"""EmpatheticDialogues: a speaker tells of a situation in which they felt one of 32 feelings, a listener answers.

Source: Rashkin et al. 2019, arXiv 1811.00207; https://github.com/facebookresearch/EmpatheticDialogues.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.rows import each_once, grouped
from epo.data.corpora.turns import read_label
from epo.data.dialogue import DataError, Dialogue, Split, Turn
from epo.data.label_sets import EMPATHETIC
from epo.data.lines import read_lines

_SPLITS: dict[str, Split] = {"train": "train", "valid": "validation", "test": "test"}
_COLUMNS = ["conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"]
_FIRST_EXCHANGES = "first_exchanges.jsonl"
_EXCHANGE_KEYS = ("id", "emotion", "user", "reply")


def read_empathetic_dialogues(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `{train,valid,test}.csv`, in `root` or in its folder `empatheticdialogues`.

    Who tells is the user and has the dialogue's feeling; who listens is the assistant and has none. The situation
    they were asked to tell of is the dialogue's background. Where those files are not, `first_exchanges.jsonl` is
    read: the first two turns of a dialogue a line, without a split.
    """
    folder = root / "empatheticdialogues" if (root / "empatheticdialogues").is_dir() else root
    files = {own: folder / f"{own}.csv" for own in _SPLITS}
    if not any(path.is_file() for path in files.values()):
        exchanges = folder / _FIRST_EXCHANGES
        if not exchanges.is_file():
            wanted = f"train.csv, valid.csv or test.csv, and no {_FIRST_EXCHANGES}"
            raise DataError(f"{root}: no {wanted}; see docs/corpora.md for the layout")
        yield from _read_exchanges(exchanges, report)
        return
    for own, path in files.items():
        if not path.is_file():
            report.note("split file missing", str(path))
            continue
        for conversation, rows in grouped(_read_rows(path, report), lambda row: row.conversation, report):
            yield _dialogue(f"empathetic-{own}-{conversation}", rows, _SPLITS[own], report)


def _read_exchanges(path: Path, report: ImportReport) -> Iterator[Dialogue]:
    """Yield a dialogue of two turns for each line `{"id", "emotion", "situation", "user", "reply"}`."""
    seen: set[str] = set()
    for where, row in read_lines(path, report):
        texts = {key: row.get(key) for key in _EXCHANGE_KEYS}
        bad = [key for key, text in texts.items() if not (isinstance(text, str) and text.strip())]
        if bad:
            report.fault("line lacks a text", f"{where}: {bad[0]} is {texts[bad[0]]!r}", "write the words")
        elif not all(is_encodable(text) for text in row.values() if isinstance(text, str)):
            report.fault("row is not UTF-8", where, "write the characters in place of half ones")
        elif row["id"] in seen:
            report.fault("dialogue comes twice", f"{where}: {row['id']}", "give each its own id")
        else:
            seen.add(row["id"])
            yield _exchange(row, where, report)


def _exchange(row: dict[str, Any], where: str, report: ImportReport) -> Dialogue:
    emotion = read_label(row["emotion"], EMPATHETIC, where, report)
    told = Turn("user", row["user"].strip(), emotion)
    situation = row.get("situation")
    background = situation.strip() if isinstance(situation, str) and situation.strip() else None
    return Dialogue(f"empathetic-{row['id']}", (told, Turn("assistant", row["reply"].strip())), background=background)


@dataclass(frozen=True)
class _Row:
    where: str
    conversation: str
    place: int
    feeling: str
    situation: str
    speaker: str
    text: str


def _read_rows(path: Path, report: ImportReport) -> Iterator[_Row]:
    """Yield the rows of a file that looks like CSV and is not: no cell is quoted, a comma is written `_comma_`."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        header = next(lines, "").strip().split(",")
        if header[: len(_COLUMNS)] != _COLUMNS:
            raise DataError(f"{path}:1: want the columns {', '.join(_COLUMNS)}; is this the file as downloaded?")
        for number, line in enumerate(lines, 2):
            where = f"{path}:{number}"
            cells = line.rstrip("\r\n").split(",")
            if not any(cell.strip() for cell in cells):
                continue  # sheets end with rows of nothing
            if not is_encodable(line):
                report.fault("row is not UTF-8", where, "convert the file with `iconv -t UTF-8`")
            elif len(cells) < len(_COLUMNS) or not cells[1].isdecimal():
                report.fault("row has too few columns", where, "download the file again")
            elif int(cells[1]) == 0:
                report.fault("utterance_idx is 0", where, "count the utterances of a dialogue from 1")
            elif not cells[5].strip():
                report.fault("utterance is empty", where, "write the words")
            else:
                if len(cells) > len(header):
                    report.note("row has more columns than the header: the last are not read", where)
                conversation, place, feeling, situation, speaker, text = (_plain(cell) for cell in cells[:6])
                yield _Row(where, conversation, int(place), feeling, situation, speaker, text)


def _plain(cell: str) -> str:
    return cell.replace("_comma_", ",").strip()


def _dialogue(dialogue_id: str, rows: list[_Row], split: Split, report: ImportReport) -> Dialogue:
    rows = list(each_once(rows, lambda row: row.place, report).values())
    places = [row.place for row in rows]
    if places != sorted(places):
        report.note("utterances out of order", rows[0].where)
        rows = sorted(rows, key=lambda row: row.place)
    if sorted(places) != list(range(1, len(rows) + 1)):
        report.note("gap in utterance_idx", rows[0].where)
    teller = rows[0].speaker if rows[0].place % 2 == 1 else None
    turns = []
    for row in rows:
        # With a gap before the first row the first to be heard is not who tells: odd places are the teller's.
        is_teller = row.speaker == teller if teller is not None else row.place % 2 == 1
        if is_teller != (row.place % 2 == 1):
            report.note("one speaker has two turns in a row", row.where)
        emotion = read_label(row.feeling, EMPATHETIC, row.where, report) if is_teller else None
        turns.append(Turn("user" if is_teller else "assistant", row.text, emotion, name=row.speaker or None))
    return Dialogue(dialogue_id, tuple(turns), split=split, background=rows[0].situation or None)


CORPORA = (
    Corpus(
        "empathetic_dialogues",
        "EmpatheticDialogues: 24,850 conversations about 32 feelings, text only",
        "CC BY-NC 4.0",
        read_empathetic_dialogues,
        EMPATHETIC,
    ),
)

__all__ = ["CORPORA", "read_empathetic_dialogues"]

"""The project's own `dialogues.jsonl`, imported again: validated, given splits, its media brought along."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import DataError, Dialogue, Turn, scan_dialogues, with_halves


def read_own(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `<root>/dialogues.jsonl`, each without what is broken in it.

    Raises:
        DataError: the file is missing or the one about to be written, or a fault, and `report` says to stop.
    """
    path = root / "dialogues.jsonl"
    if os.path.realpath(path.parent) == os.path.realpath(media.root.parent):
        raise DataError(f"{path}: cannot be imported onto itself; choose another --out")
    for where, dialogue in scan_dialogues(path, report):
        turns = tuple(_with_media(turn, media, f"{where}: turn {index}") for index, turn in enumerate(dialogue.turns))
        yield replace(dialogue, turns=turns)


def _with_media(turn: Turn, media: MediaFolder, where: str) -> Turn:
    if turn.clip is None:
        return turn
    audio, video = (None if path is None else media.place(path, where) for path in (turn.clip.audio, turn.clip.video))
    return with_halves(turn, audio, video)


CORPORA = (
    Corpus(
        "jsonl",
        "your own dialogues.jsonl, as docs/data.md describes it",
        "your own data: note its terms here",
        read_own,
    ),
)

__all__ = ["CORPORA", "read_own"]

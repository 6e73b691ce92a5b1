"""DailyDialog: written everyday dialogues of two, one a line, with a feeling and an act an utterance.

Source: Li et al. 2017, arXiv 1710.03957; http://yanran.li/dailydialog.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.turns import alternate_roles, read_label
from epo.data.dialogue import SPLITS, DataError, Dialogue, Split, Turn
from epo.data.labels import LabelMap
from epo.data.lines import name_other_encoding

_LABELS = LabelMap(
    "dailydialog",
    "DailyDialog: its numbers, or the words they stand for; no emotion counts as neutral (our choice).",
    {
        "0": "neutral", "1": "angry", "2": "disgust", "3": "fearful", "4": "happy", "5": "sad", "6": "surprised",
        "no emotion": "neutral", "no_emotion": "neutral", "noemotion": "neutral", "anger": "angry",
        "disgust": "disgust", "fear": "fearful", "happiness": "happy", "sadness": "sad", "surprise": "surprised",
    },
)  # fmt: skip
_ACTS = {"1": "inform", "2": "question", "3": "directive", "4": "commissive"}
_END = "__eou__"
_MAX_FILE_BYTES = 1 << 28  # the whole corpus is 8 MB


def read_dailydialog(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of the folders or archives `train`, `validation` and `test`, else of `dialogues_text.txt`.

    Two people speak by turns, so the first is the user. Acts are the turns' strategies. Some dialogues are in more
    than one published split: they stay, and are counted.
    """
    folder = root / "ijcnlp_dailydialog" if (root / "ijcnlp_dailydialog").is_dir() else root
    sources = [source for split in SPLITS if (source := _source(folder, split)) is not None]
    if not sources and (folder / "dialogues_text.txt").is_file():
        sources = [_Source(folder, None, "dialogues_text.txt", "dialogues_emotion.txt", "dialogues_act.txt", None)]
    if not sources:
        raise DataError(
            f"{root}: neither train/dialogues_train.txt, train.zip nor dialogues_text.txt; see docs/corpora.md"
        )
    for split in SPLITS:
        if sources[0].split is not None and split not in {source.split for source in sources}:
            report.note("split missing", f"{folder}: {split}")
    first_split: dict[bytes, Split | None] = {}
    for source in sources:
        for number, texts, labels, acts in source.rows(report):
            where = f"{source.where}:{number}"
            digest = hashlib.sha256("\n".join(texts).encode()).digest()
            if first_split.setdefault(digest, source.split) != source.split:
                report.note("dialogue is in another split too", where)
            turns = _turns(texts, labels, acts, where, report)
            if turns:
                yield Dialogue(f"dailydialog-{source.split or 'all'}-{number}", turns, split=source.split)


@dataclass(frozen=True)
class _Source:
    """Where the lines of one split lie: files of a folder, or of an archive in it."""

    folder: Path
    archive: Path | None
    texts: str
    labels: str
    acts: str
    split: Split | None

    @property
    def where(self) -> str:
        return str((self.archive or self.folder) / self.texts)

    def rows(self, report: ImportReport) -> Iterator[tuple[int, list[str], list[str], list[str]]]:
        """Yield (line number, texts, labels, acts) of each dialogue that is text."""
        columns = [self._lines(name, report) for name in (self.texts, self.labels, self.acts)]
        if columns[1] and len(columns[1]) != len(columns[0]):
            wrong = f"{self.where} ({len(columns[0])} dialogues, {len(columns[1])} lines of labels)"
            report.fault("labels are not of these dialogues: none is read", wrong, "download the files again")
            columns[1] = []
        for number, (line, labels, acts) in enumerate(zip_longest(*columns, fillvalue=""), 1):
            if not line.strip():
                continue
            where = f"{self.where}:{number}"
            if not is_encodable(line):
                report.fault("row is not UTF-8", where, "convert the file with `iconv -t UTF-8`")
            elif _END not in line:
                report.fault(f"line without {_END}", f"{where}: {line[:40]!r}", "download the file again")
            else:
                yield (
                    number,
                    [text.strip() for text in line.strip().removesuffix(_END).split(_END)],
                    labels.split(),
                    acts.split(),
                )

    def _lines(self, name: str, report: ImportReport) -> list[str]:
        try:
            raw = self._bytes(name)
        except (OSError, KeyError):
            report.note("file missing: its turns have no label", f"{self.folder}: {name}")
            return []
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.archive}: {error}; download the archive again") from None
        if name_other_encoding(self.folder / name if self.archive is None else self.archive / name, raw[:4], report):
            return []
        text = raw.decode("utf-8-sig", "surrogateescape")
        lines = text.split("\n" if "\n" in text else "\r")  # a text of old Macs has none
        return lines[:-1] if lines[-1] == "" else lines

    def _bytes(self, name: str) -> bytes:
        if self.archive is None:
            return (self.folder / name).read_bytes()
        with zipfile.ZipFile(self.archive) as archive:
            member = archive.getinfo(name)
            if member.file_size > _MAX_FILE_BYTES:
                raise DataError(f"{self.archive}: {name} is of {member.file_size} bytes; download the archive again")
            return archive.read(member)


def _source(folder: Path, split: Split) -> _Source | None:
    names = [f"dialogues_{kind}{split}.txt" for kind in ("", "emotion_", "act_")]
    if (folder / split / names[0]).is_file():
        return _Source(folder / split, None, names[0], names[1], names[2], split)
    archive = folder / f"{split}.zip"
    if archive.is_file():
        inside = [f"{split}/{name}" for name in names]
        return _Source(folder, archive, inside[0], inside[1], inside[2], split)
    return None


def _turns(texts: list[str], labels: list[str], acts: list[str], where: str, report: ImportReport) -> tuple[Turn, ...]:
    if labels and len(labels) != len(texts):
        report.note(
            "not as many labels as turns: kept without emotions", f"{where}: {len(texts)} turns, {len(labels)} labels"
        )
        labels = []
    if len(acts) != len(texts):
        acts = []
    turns = []
    for index, (role, text) in enumerate(zip(alternate_roles([str(i) for i in range(len(texts))]), texts, strict=True)):
        if not text:
            report.fault("utterance is empty", f"{where}: turn {index}", "write the words")
            continue
        emotion = read_label(labels[index], _LABELS, f"{where}: turn {index}", report) if labels else None
        turns.append(Turn(role, text, emotion, strategy=_ACTS.get(acts[index]) if acts else None))
    return tuple(turns)


CORPORA = (
    Corpus(
        "dailydialog",
        "DailyDialog: 13,118 everyday dialogues with feelings and acts, text only",
        "CC BY-NC-SA 4.0",
        read_dailydialog,
        _LABELS,
    ),
)

__all__ = ["CORPORA", "read_dailydialog"]

"""MultiDialog: metadata as JSONL, audio in tar.gz archives, read in one pass and never unpacked whole.

Source: Park et al. 2024, arXiv 2406.07867; https://huggingface.co/datasets/IVLLab/MultiDialog.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from compressor.progress import Progress
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.rows import grouped
from epo.data.corpora.turns import read_label
from epo.data.dialogue import Clip, DataError, Dialogue, Speaker, Split, Turn
from epo.data.labels import LabelMap
from epo.data.lines import read_lines

_SPLITS: dict[str, Split] = {
    "train": "train",
    "valid_freq": "validation",
    "valid_rare": "validation",
    "test_freq": "test",
    "test_rare": "test",
}
_ROLES: dict[str, Speaker] = {"human": "user", "gpt": "assistant"}
_LABELS = LabelMap(
    "multidialog",
    "MultiDialog: the seven, in other forms of the words; one to one.",
    {
        "neutral": "neutral", "happy": "happy", "fear": "fearful", "angry": "angry", "disgusting": "disgust",
        "surprising": "surprised", "sad": "sad",
    },
)  # fmt: skip
_FIELDS = ("conv_id", "from", "audio", "value", "emotion")
_MIB = 1 << 20
_MAX_AUDIO_BYTES = 1 << 30  # an hour-long 16 kHz file is 115 MB; more is no utterance


def read_multidialog(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `metadata/{split}/*.jsonl` with audio from the archives and video where unpacked.

    `human` is the user and `gpt` the assistant, as the corpus says. The audio a metadata file names is taken out
    of `data/{split}/{split}_chunks_NNNN.tar.gz`; video is looked for under `video/{split}`, in the same relative
    path with the ending `.mp4` (our choice: it is distributed apart).
    """
    found = False
    for own, split in _SPLITS.items():
        files = sorted((root / "metadata" / own).glob("*.jsonl"))
        if not files:
            report.note("split file missing", str(root / "metadata" / own))
            continue
        found = True
        rows = (row for file in files for row in _read_chunk(file, root, own, media, report))
        for conversation, members in grouped(rows, lambda row: row.conversation, report):
            turns = tuple(_turn(row, root / "video" / own, media, report) for row in members)
            yield Dialogue(id=f"multidialog-{own}-{conversation}", turns=turns, split=split)
    if not found:
        raise DataError(f"{root}: no metadata/{{split}}/*.jsonl; see docs/corpora.md for the layout of multidialog")


@dataclass(frozen=True)
class _Row:
    where: str
    conversation: str
    role: Speaker
    text: str
    label: str
    audio: str
    audio_path: Path | None


def _read_chunk(file: Path, root: Path, own: str, media: MediaFolder, report: ImportReport) -> Iterator[_Row]:
    """Yield the rows of one metadata file after the audio they name was taken out of the archive beside it."""
    number = file.stem.rpartition("_")[2]
    archive = root / "data" / own / f"{own}_chunks_{number}.tar.gz"
    audio = _Audio(media, own)
    if archive.is_file():
        audio.extract(archive, {str(row.get("audio")) for _, row in read_lines(file, ImportReport("skip"))}, report)
    else:
        report.note("archive missing: its turns have no audio", str(archive))
    for where, row in read_lines(file, report):
        if not all(isinstance(row.get(key), str | int) for key in _FIELDS):
            report.fault(f"row lacks one of {', '.join(_FIELDS)}", where, "download the file again")
        elif row["from"] not in _ROLES:
            report.fault("'from' is neither gpt nor human", where, "correct the row")
        elif not str(row["value"]).strip():
            report.fault("utterance is empty", where, "write the words")
        else:
            yield _make_row(row, where, audio, archive.is_file(), report)


def _make_row(row: dict[str, Any], where: str, audio: "_Audio", has_archive: bool, report: ImportReport) -> _Row:
    path = audio.find(str(row["audio"]))
    if path is None and has_archive:
        report.note("clip missing", f"{where}: {row['audio']}")
    return _Row(
        where,
        conversation=str(row["conv_id"]),
        role=_ROLES[row["from"]],
        text=str(row["value"]).strip(),
        label=str(row["emotion"]),
        audio=str(row["audio"]),
        audio_path=path,
    )


def _turn(row: _Row, videos: Path, media: MediaFolder, report: ImportReport) -> Turn:
    video = None
    if videos.is_dir() and media.safe_path(row.audio) is not None:
        video = media.place(videos / PurePosixPath(row.audio).with_suffix(".mp4"), row.where)
    clip = None if row.audio_path is None and video is None else Clip(audio=row.audio_path, video=video)
    return Turn(row.role, row.text, read_label(row.label, _LABELS, row.where, report), clip)


class _Audio:
    """The audio files of one split, at `media/audio/{split}/<name in the metadata>`."""

    def __init__(self, media: MediaFolder, own: str) -> None:
        self._media = media
        self._own = own

    def find(self, name: str) -> Path | None:
        path = self._media.safe_path(f"audio/{self._own}/{name}")
        return path if path is not None and path.is_file() else None

    def extract(self, archive: Path, wanted: set[str], report: ImportReport) -> None:
        """Write the wanted members; a member may have folders before the name that the metadata gives.

        Links, devices and names that would leave the folder are faults; what is already there is kept.
        """
        wanted = {name for name in wanted if self.find(name) is None}
        if not wanted:
            return
        progress = Progress(archive.name, archive.stat().st_size // _MIB, "MiB")
        try:
            with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as tar:
                for member in tar:
                    progress.advance(raw.tell() // _MIB - progress.done)
                    name = _match(member.name, wanted)
                    if name is not None and self._is_safe(member, name, f"{archive}: {member.name}", report):
                        self._write(tar.extractfile(member), name)
            progress.close()
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the archive
            report.fault(
                "archive is damaged: the rest of its audio is missing", f"{archive} ({error})", "download it again"
            )

    def _is_safe(self, member: tarfile.TarInfo, name: str, where: str, report: ImportReport) -> bool:
        is_inside = self._media.safe_path(member.name) is not None and self._media.safe_path(name) is not None
        if not is_inside or not member.isreg():
            report.fault("archive member leaves the folder or is a link", where, "download the archive again")
        elif not 0 < member.size <= _MAX_AUDIO_BYTES:
            report.fault("clip is empty or over 1 GiB", where, "download the archive again")
        else:
            return True
        return False

    def _write(self, source: IO[bytes] | None, name: str) -> None:
        target = self._media.safe_path(f"audio/{self._own}/{name}")
        assert source is not None and target is not None

        def fill(partial: Path) -> None:
            with partial.open("wb") as out:
                shutil.copyfileobj(source, out)

        self._media.write(target, fill)


def _match(member: str, wanted: set[str]) -> str | None:
    """Return the wanted name that a member carries: its own, or what follows some of its leading folders."""
    name = os.path.normpath(member) if member.startswith("./") else member
    while name:
        if name in wanted:
            return name
        name = name.partition("/")[2]
    return None


CORPORA = (
    Corpus(
        "multidialog",
        "MultiDialog: acted conversations, with sound and faces",
        "see huggingface.co/datasets/IVLLab/MultiDialog; check the terms before sharing",
        read_multidialog,
        _LABELS,
    ),
)

__all__ = ["CORPORA", "read_multidialog"]

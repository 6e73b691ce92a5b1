"""MELD and MELD-Dyadic: CSV annotations of *Friends* beside folders of `dia*_utt*.mp4` clips.

Source: Poria et al. 2019, arXiv 1810.02508; https://github.com/declare-lab/MELD.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.rows import each_once, grouped, read_csv
from epo.data.corpora.turns import alternate_roles, parse_clock, read_label
from epo.data.dialogue import Clip, DataError, Dialogue, Split, Turn
from epo.data.labels import LabelMap

# The corpus's own name of each split and the folders its clips unpack into, with and without the archive's folder.
_SPLITS: dict[str, tuple[Split, tuple[str, ...]]] = {
    "train": ("train", ("train_splits", "train/train_splits", "train")),
    "dev": ("validation", ("dev_splits_complete", "dev/dev_splits_complete", "dev")),
    "test": ("test", ("output_repeated_splits_test", "test/output_repeated_splits_test", "test")),
}
_COLUMNS = {"Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime"}
MELD_LABELS = LabelMap(
    "meld",
    "MELD: the six basic emotions and neutral, as nouns; one to one.",
    {
        "neutral": "neutral", "joy": "happy", "fear": "fearful", "anger": "angry", "disgust": "disgust",
        "surprise": "surprised", "sadness": "sad",
    },
)  # fmt: skip
_LONG_SECONDS = 30.0  # Whisper's window


def read_meld(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `{train,dev,test}_sent_emo.csv`; a clip is named by its dialogue and utterance ids."""
    yield from _read(root, media, report, name="meld", suffix="_sent_emo.csv", clip_prefix="")


def read_meld_dyadic(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `{train,dev,test}_sent_emo_dya.csv`; the `Old_*` ids name the clip, as MELD does."""
    yield from _read(root, media, report, name="meld_dyadic", suffix="_sent_emo_dya.csv", clip_prefix="Old_")


@dataclass(frozen=True)
class _Row:
    """One utterance as the CSV has it; times are seconds into the episode, None where they cannot be read."""

    where: str
    dialogue: int
    utterance: int
    speaker: str
    text: str
    label: str
    start_s: float | None
    end_s: float | None
    clip_name: str


def _read(
    root: Path, media: MediaFolder, report: ImportReport, *, name: str, suffix: str, clip_prefix: str
) -> Iterator[Dialogue]:
    files = {own: root / f"{own}{suffix}" for own in _SPLITS}
    if not any(path.is_file() for path in files.values()):
        raise DataError(f"{root}: no file named *{suffix}; see docs/corpora.md for the layout of {name}")
    for own, path in files.items():
        if not path.is_file():
            report.note("split file missing", str(path))
            continue
        split, folders = _SPLITS[own]
        clips = next((root / folder for folder in folders if (root / folder).is_dir()), None)
        if clips is None:
            report.note("no folder of clips: turns have text only", f"{root / folders[0]}")
        previous_id = -1
        rows = _read_rows(path, clip_prefix, report)
        for dialogue_id, members in grouped(rows, lambda row: row.dialogue, report):
            assert isinstance(dialogue_id, int)
            if dialogue_id > previous_id + 1:
                report.note("gap in Dialogue_ID", members[0].where)
            previous_id = dialogue_id
            turns = _turns(members, clips, media, report)
            if turns:
                yield Dialogue(id=f"{name}-{own}-{dialogue_id}", turns=turns, split=split)


def _read_rows(path: Path, clip_prefix: str, report: ImportReport) -> Iterator[_Row]:
    ids = {f"{clip_prefix}Dialogue_ID", f"{clip_prefix}Utterance_ID"}
    for where, row in read_csv(path, _COLUMNS | ids, report):
        try:
            dialogue, utterance = int(row["Dialogue_ID"]), int(row["Utterance_ID"])
            clip_dialogue, clip_utterance = (int(row[f"{clip_prefix}{key}_ID"]) for key in ("Dialogue", "Utterance"))
        except ValueError:
            report.fault("id is not a number", where, "correct the ids")
            continue
        if not row["Utterance"].strip():
            report.fault("utterance is empty", where, "write the words")
            continue
        times = row["StartTime"].strip(), row["EndTime"].strip()
        if any(time[1:2] == ":" for time in times):
            report.note("time with a one-digit hour", where)
        yield _Row(
            where,
            dialogue,
            utterance,
            speaker=row["Speaker"].strip(),
            text=row["Utterance"].strip(),
            label=row["Emotion"],
            start_s=_seconds(times[0], where, report),
            end_s=_seconds(times[1], where, report),
            clip_name=f"dia{clip_dialogue}_utt{clip_utterance}.mp4",
        )


def _turns(rows: list[_Row], clips: Path | None, media: MediaFolder, report: ImportReport) -> tuple[Turn, ...]:
    rows = _in_order(rows, report)
    _note_times(rows, report)
    speakers = [row.speaker for row in rows]
    if len(set(speakers)) > 2:
        report.note("dialogue of more than two speakers", rows[0].where)
    return tuple(
        Turn(
            role, row.text, read_label(row.label, MELD_LABELS, row.where, report), _clip(row, clips, media), row.speaker
        )
        for row, role in zip(rows, alternate_roles(speakers), strict=True)
    )


def _in_order(rows: list[_Row], report: ImportReport) -> list[_Row]:
    """Return the rows by utterance id, each id once."""
    unique = each_once(rows, lambda row: row.utterance, report)
    ids = list(unique)
    if ids != sorted(ids):
        report.note("utterances out of order", rows[0].where)
    ids.sort()
    if ids != list(range(len(ids))):
        report.note("gap in Utterance_ID", rows[0].where)
    return [unique[utterance] for utterance in ids]


def _note_times(rows: list[_Row], report: ImportReport) -> None:
    for row in rows:
        if row.start_s is None or row.end_s is None:
            continue
        if row.end_s <= row.start_s:
            report.note("end is not after start", row.where)
        elif row.end_s - row.start_s > _LONG_SECONDS:
            report.note(f"utterance of more than {_LONG_SECONDS:g} s", row.where)
    for before, after in pairwise(rows):
        if before.end_s is not None and after.start_s is not None and after.start_s < before.end_s:
            report.note("times overlap or go back", after.where)


def _clip(row: _Row, clips: Path | None, media: MediaFolder) -> Clip | None:
    """Return the clip of a turn: the file holds just this utterance, so no times are needed."""
    if clips is None:
        return None
    known = row.start_s is not None and row.end_s is not None
    row_seconds = row.end_s - row.start_s if known else None  # type: ignore[operator]
    return media.place_recording(clips / row.clip_name, row.where, row_seconds)


def _seconds(text: str, where: str, report: ImportReport) -> float | None:
    seconds = parse_clock(text)
    if seconds is None:
        report.note("time cannot be read", f"{where}: {text!r}")
    return seconds


_LICENCE = "annotations GPL-3.0; the clips are of a TV series: research use, do not redistribute"
CORPORA = (
    Corpus("meld", "MELD: 1,432 dialogues of Friends, with clips", _LICENCE, read_meld, MELD_LABELS),
    Corpus(
        "meld_dyadic", "MELD-Dyadic: MELD cut into dialogues of two speakers", _LICENCE, read_meld_dyadic, MELD_LABELS
    ),
)

__all__ = ["CORPORA", "MELD_LABELS", "read_meld", "read_meld_dyadic"]

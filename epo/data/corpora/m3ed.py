"""M3ED: Chinese television dialogues; sentences of one speaker in a row become one turn with their main emotion.

Source: Zhao et al. 2022, https://github.com/AIM3-RUC/RUCM3ED; merging as ELMD does (10.1145/3652583.3658104).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.rows import read_members
from epo.data.corpora.turns import alternate_roles, read_label
from epo.data.dialogue import Clip, DataError, Dialogue, Split, Turn
from epo.data.labels import LabelMap
from epo.emotions import Emotion

_SPLIT_LISTS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
_LABELS = LabelMap(
    "m3ed",
    "M3ED: the seven, in other forms of the words; one to one.",
    {
        "anger": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy", "neutral": "neutral",
        "sad": "sad", "surprise": "surprised",
    },
)  # fmt: skip
_SAFE_NAME = re.compile(r"\w[\w.-]*")


def read_m3ed(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `annotation.json`: one a scene, the first speaker as user.

    Splits are those of `splitInfo/movie_list_{train,val,test}.txt`, by show, where these files exist. The audio
    of a sentence is `modality_speech/{speaker}_{sentence}.wav`; that of a turn is its sentences, joined.
    """
    path = root / "annotation.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; see docs/corpora.md for the layout of m3ed")
    splits = _read_splits(root, report)
    for show, scenes in read_members(path, report):
        if not isinstance(scenes, dict):
            report.fault("show without scenes", f"{path}: {show}", "download the file again")
            continue
        if splits and show not in splits:
            report.note("show in no split list: split by dialogue id", f"{path}: {show}")
        for scene, content in scenes.items():
            sentences = _sentences(content, f"{path}: {show}: {scene}", report)
            if sentences:
                turns = _turns(sentences, root, media, report)
                yield Dialogue(f"m3ed-{scene}", turns, language="zh", split=splits.get(show), group=f"m3ed-{show}")


@dataclass(frozen=True)
class _Sentence:
    where: str
    name: str
    speaker: str
    text: str
    emotion: Emotion | None


def _read_splits(root: Path, report: ImportReport) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for own, split in _SPLIT_LISTS.items():
        path = root / "splitInfo" / f"movie_list_{own}.txt"
        if not path.is_file():
            report.note("split list missing", str(path))
            continue
        try:
            shows = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: not UTF-8 (at byte {error.start + 1}); convert it with `iconv -t UTF-8`"
            ) from None
        splits |= {show.strip(): split for show in shows if show.strip()}
    return splits


def _sentences(content: Any, where: str, report: ImportReport) -> list[_Sentence]:
    dialog = content.get("Dialog") if isinstance(content, dict) else None
    if not isinstance(dialog, dict):
        report.fault("scene without 'Dialog'", where, "download the file again")
        return []
    sentences = []
    for name, row in dialog.items():
        row_where = f"{where}: {name}"
        fields = row if isinstance(row, dict) else {}
        speaker, text, label = fields.get("Speaker"), fields.get("Text"), _label(fields)
        if not (isinstance(speaker, str) and isinstance(text, str) and isinstance(label, str)):
            report.fault("sentence without speaker, text or emotion", row_where, "complete the sentence")
        elif not is_encodable(text):
            report.fault("row is not UTF-8", row_where, "convert the file with `iconv -t UTF-8`")
        elif not text.strip():
            report.fault("utterance is empty", row_where, "write the words")
        else:
            emotion = read_label(label, _LABELS, row_where, report)
            sentences.append(_Sentence(row_where, name, speaker, text.strip(), emotion))
    return sentences


def _label(fields: dict[str, Any]) -> Any:
    annotation = fields.get("EmoAnnotation")
    return annotation.get("final_main_emo") if isinstance(annotation, dict) else None


def _turns(sentences: list[_Sentence], root: Path, media: MediaFolder, report: ImportReport) -> tuple[Turn, ...]:
    merged = [list(group) for _, group in groupby(sentences, key=lambda sentence: sentence.speaker)]
    if len({sentence.speaker for sentence in sentences}) > 2:
        report.note("dialogue of more than two speakers", sentences[0].where)
    roles = alternate_roles([group[0].speaker for group in merged])
    # Chinese needs no blank between sentences, but keeps one where the corpus wrote no full stop.
    return tuple(
        Turn(
            role,
            " ".join(sentence.text for sentence in group),
            _main_emotion(group),
            _clip(group, root, media, report),
            name=group[0].speaker,
        )
        for role, group in zip(roles, merged, strict=True)
    )


def _main_emotion(group: list[_Sentence]) -> Emotion | None:
    """Return the emotion of most sentences, of equals the first to appear."""
    counts = Counter(sentence.emotion for sentence in group if sentence.emotion is not None)
    return counts.most_common(1)[0][0] if counts else None


def _clip(group: list[_Sentence], root: Path, media: MediaFolder, report: ImportReport) -> Clip | None:
    folder = root / "modality_speech"
    if not folder.is_dir():
        return None
    paths = []
    for sentence in group:
        name = f"{sentence.speaker}_{sentence.name}.wav"
        if _SAFE_NAME.fullmatch(name) is None:
            report.fault("name cannot be a file name", sentence.where, "rename speaker or sentence")
            continue
        path = media.place(folder / name, sentence.where)
        if path is not None:
            paths.append(path)
    if len(paths) < 2:
        return Clip(audio=paths[0]) if paths else None
    joined = paths[0].with_name(f"{paths[0].stem}+{len(paths) - 1}.wav")
    if not joined.is_file():
        try:
            media.write(joined, lambda partial: _join(paths, partial))
        except (soundfile.SoundFileError, ValueError) as error:
            report.fault("clips cannot be joined", f"{group[0].where} ({error})", "download the files again")
            return None
    return Clip(audio=joined)


def _join(paths: list[Path], target: Path) -> None:
    """Write mono WAV files of one rate one after the other."""
    pieces, rates = [], set()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (S, channels)
        pieces.append(samples.mean(axis=1))
        rates.add(rate)
    if len(rates) > 1:
        raise ValueError(f"sample rates differ: {sorted(rates)} Hz")
    soundfile.write(target, np.concatenate(pieces), rates.pop(), format="WAV")


CORPORA = (
    Corpus(
        "m3ed",
        "M3ED: Chinese television dialogues, with sound",
        "licence agreement with RUC AIM3: research use, do not redistribute",
        read_m3ed,
        _LABELS,
    ),
)

__all__ = ["CORPORA", "read_m3ed"]

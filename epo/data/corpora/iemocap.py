"""IEMOCAP: five sessions of two actors each; sentences as WAV, dialogues as split-screen AVI, labels and words as text.

Source: Busso et al. 2008, https://sail.usc.edu/iemocap.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Literal

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.iemocap_video import Cut, Side, cut_halves
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.turns import alternate_roles, read_label
from epo.data.dialogue import Clip, DataError, Dialogue, Split, Turn
from epo.data.labels import LabelMap
from epo.data.media import MediaError
from epo.emotions import Vad

LeftActor = Literal["marked", "female", "male"]
_LABELS = LabelMap(
    "iemocap",
    "IEMOCAP: excitement counts as happy and frustration as angry (our choice); oth and xxx, its own marks of no "
    "label, are left out.",
    {
        "ang": "angry", "dis": "disgust", "exc": "happy", "fea": "fearful", "fru": "angry", "hap": "happy",
        "neu": "neutral", "sad": "sad", "sur": "surprised", "oth": None, "xxx": None,
    },
)  # fmt: skip

# No official split exists. Speakers differ between sessions, so holding sessions out holds speakers out.
_SPLITS: dict[str, Split] = {"4": "validation", "5": "test"}

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_EVALUATION = re.compile(
    rf"\[{_NUMBER} - {_NUMBER}\]\s+(\S+)\s+(\w+)\s+\[{_NUMBER}, {_NUMBER}, {_NUMBER}\]"
)  # [start - end] utterance label [valence, activation, dominance]
_UTTERANCE = r"(Ses\d\d[FM]_\w+_([FM])\w*)"
_TRANSCRIPT = re.compile(rf"{_UTTERANCE} ?\[{_NUMBER}-{_NUMBER}\]: ?(.*)")


@dataclass(frozen=True)
class IemocapOptions:
    """What only an import of IEMOCAP asks."""

    iemocap_left: LeftActor = field(
        default="marked", metadata={"help": "who is in the left half of IEMOCAP's videos: marked, female or male"}
    )


def read_iemocap(
    root: Path, media: MediaFolder, report: ImportReport, options: IemocapOptions = IemocapOptions()
) -> Iterator[Dialogue]:
    """Yield the dialogues of `Session{1..5}`; sessions 4 and 5 are validation and test (our choice).

    Who speaks first is the user. Valence, activation and dominance go to `evaluations.jsonl` beside the
    dialogues, by dialogue and turn, as the means of the corpus's annotators on its scale of 1 to 5; and to `vad` of
    the turn, where 1 is -1 and 5 is 1. A turn that has a mean outside of its scale has no `vad`.

    Args:
        root: the folder that holds the sessions.
        media: where clips go; videos are cut to the speaker's half.
        report: counts irregularities.
        options: `iemocap_left`, who is in the left half of the videos: who wears the markers (the letter in the
            dialogue's name), or always the woman or the man. What we could read does not say; look at a page of
            `launch/data.py show`.
    """
    sessions = [root / f"Session{number}" for number in range(1, 6)]
    if not any(session.is_dir() for session in sessions):
        raise DataError(f"{root}: no folder Session1 to Session5; see docs/corpora.md for the layout of iemocap")
    target = media.root.parent / "evaluations.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as evaluations:
            for session in sessions:
                if not session.is_dir():
                    report.note("session missing", str(session))
                    continue
                for transcript in sorted((session / "dialog" / "transcriptions").glob("Ses*.txt")):
                    recording = _Recording(session, transcript.stem, media, report, options.iemocap_left)
                    dialogue = recording.read(evaluations)
                    if dialogue is not None:
                        yield dialogue
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Line:
    """One line of a transcription; times are seconds into the dialogue."""

    where: str
    utterance: str
    actor: str
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class _Evaluation:
    label: str
    valence: float
    activation: float
    dominance: float

    @property
    def vad(self) -> Vad | None:
        """The three on a scale of -1 to 1; None where one lies outside of 1 to 5."""
        values = tuple((value - 3) / 2 for value in (self.valence, self.activation, self.dominance))
        return values if all(-1 <= value <= 1 for value in values) else None  # type: ignore[return-value]


@dataclass(frozen=True)
class _Recording:
    """One dialogue of one session."""

    session: Path
    name: str
    media: MediaFolder
    report: ImportReport
    left: LeftActor

    def read(self, evaluations_out: IO[str]) -> Dialogue | None:
        """Return the dialogue in order of time, and write its evaluations; None if no line can be read."""
        lines = sorted(self._transcript(), key=lambda line: line.start_s)
        if not lines:
            self.report.fault("transcription without a readable line", self.name, "download the file again")
            return None
        for before, after in pairwise(lines):
            if after.start_s < before.end_s:
                self.report.note("times overlap", after.where)
        evaluations = self._evaluations()
        videos = self._videos(lines)
        dialogue_id = f"iemocap-{self.name}"
        turns: list[Turn] = []
        for role, line in zip(alternate_roles([line.actor for line in lines]), lines, strict=True):
            evaluation = evaluations.pop(line.utterance, None)
            if evaluation is None:
                self.report.note("utterance without evaluation: turn kept without emotion", line.where)
            else:
                row = {"dialogue_id": dialogue_id, "turn": len(turns)}
                scores = {key: value for key, value in vars(evaluation).items() if key != "label"}
                evaluations_out.write(json.dumps(row | scores) + "\n")
            emotion = None if evaluation is None else read_label(evaluation.label, _LABELS, line.where, self.report)
            vad = None if evaluation is None else evaluation.vad
            if evaluation is not None and vad is None:
                self.report.note("evaluation outside of 1 to 5: turn kept without vad", line.where)
            name = f"{self.name[:5]}{line.actor}"
            turns.append(Turn(role, line.text, emotion, self._clip(line, videos), name, vad=vad))
        for utterance in evaluations:
            self.report.note("evaluation without words", f"{self.name}: {utterance}")
        split = _SPLITS.get(self.session.name[-1], "train")
        return Dialogue(dialogue_id, tuple(turns), split=split, group=f"iemocap-{self.session.name}")

    def _transcript(self) -> Iterator[_Line]:
        path = self.session / "dialog" / "transcriptions" / f"{self.name}.txt"
        seen: set[str] = set()
        for where, text in _text_lines(path, self.report):
            match = _TRANSCRIPT.fullmatch(text)
            if match is None and text.startswith("Ses"):
                wanted = f"{where}: {text[:60]!r}, want `{self.name}_F000 [006.2901-008.2357]: words`"
                self.report.fault("line cannot be read", wanted, "correct it")
            elif match is None:
                self.report.note("line without utterance id, as `M: ...`", where)
            if match is None:
                continue
            utterance, actor, start, end, words = match.groups()
            if utterance in seen:
                self.report.fault("utterance comes twice", where, "remove one of the lines")
            elif not words.strip():
                self.report.fault("utterance is empty", where, "write the words")
            elif float(end) <= float(start):
                self.report.fault("end is not after start", where, "correct the times")
            else:
                seen.add(utterance)
                yield _Line(where, utterance, actor, float(start), float(end), words.strip())

    def _evaluations(self) -> dict[str, _Evaluation]:
        path = self.session / "dialog" / "EmoEvaluation" / f"{self.name}.txt"
        if not path.is_file():
            self.report.note("evaluation file missing: its turns have no emotion", str(path))
            return {}
        evaluations = {}
        for where, text in _text_lines(path, self.report):
            match = _EVALUATION.fullmatch(text)
            if match is not None:
                _, _, utterance, label, *scores = match.groups()
                if utterance in evaluations:
                    self.report.fault("evaluation comes twice", f"{where}: {utterance}", "remove one of the lines")
                    continue
                evaluations[utterance] = _Evaluation(label, *map(float, scores))
            elif text.startswith("["):
                self.report.fault("evaluation cannot be read", f"{where}: {text!r}", "download the file again")
        return evaluations

    def _clip(self, line: _Line, videos: dict[str, Path]) -> Clip | None:
        path = self.session / "sentences" / "wav" / self.name / f"{line.utterance}.wav"
        audio = self.media.place(path, line.where) if path.parent.is_dir() else None
        video = videos.get(line.utterance)
        return None if audio is None and video is None else Clip(audio=audio, video=video)

    def _videos(self, lines: list[_Line]) -> dict[str, Path]:
        """Cut the dialogue's video, unless that was done before, and return the file of each utterance."""
        folder = self.session / "dialog" / "avi"
        source = next(
            (path for path in (folder / "DivX" / f"{self.name}.avi", folder / f"{self.name}.avi") if path.is_file()),
            None,
        )
        if source is None:
            self.report.note("no video: turns have audio only", f"{folder}/DivX/{self.name}.avi")
            return {}
        targets = {line.utterance: self._video_folder() / f"{line.utterance}.mp4" for line in lines}
        done = self._video_folder() / "complete"
        if not done.is_file():
            self._cut(source, lines, targets)
            done.write_text("")
        return {utterance: path for utterance, path in targets.items() if path.is_file()}

    def _video_folder(self) -> Path:
        """Return where this dialogue's cuts go: another folder for another `left`, so that none is mistaken."""
        return self.media.root / f"video_left_{self.left}" / self.name

    def _cut(self, source: Path, lines: list[_Line], targets: dict[str, Path]) -> None:
        cuts = []
        for line in lines:
            target = targets[line.utterance]
            target.parent.mkdir(parents=True, exist_ok=True)
            cuts.append(
                Cut(line.start_s, line.end_s, self._side(line.actor), target.with_name(f".partial-{target.name}"))
            )
        try:
            written = cut_halves(source, cuts)
        except MediaError as error:
            self.report.fault("video cannot be decoded", str(error), "download the file again")
            return
        for cut in written:
            cut.target.replace(cut.target.with_name(cut.target.name.removeprefix(".partial-")))
        for _ in range(len(cuts) - len(written)):
            self.report.note("video ends before the turn", str(source))

    def _side(self, actor: str) -> Side:
        marked = self.name[5]  # Ses01F_impro01: the woman wears the markers
        on_the_left = {"marked": marked, "female": "F", "male": "M"}[self.left]
        return "left" if actor == on_the_left else "right"


def _text_lines(path: Path, report: ImportReport) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if is_encodable(line):
                yield f"{path}:{number}", line.strip()
            else:
                report.fault("row is not UTF-8", f"{path}:{number}", "convert the file with `iconv -t UTF-8`")


CORPORA = (
    Corpus(
        "iemocap",
        "IEMOCAP: five sessions of two actors, with sound and split-screen video",
        "licence agreement with USC SAIL: research use, do not redistribute",
        read_iemocap,
        _LABELS,
        IemocapOptions,
    ),
)

__all__ = ["CORPORA", "IemocapOptions", "LeftActor", "read_iemocap"]

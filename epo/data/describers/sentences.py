"""Source `csv`: sentences that people wrote, one a row, by clip or by dialogue and turn."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.rows import read_csv
from epo.data.describers.describer import Describe, Described, Describer, Left
from epo.data.describers.emotion_names import emotion_names_in
from epo.data.dialogue import DataError, Dialogue


@dataclass(frozen=True)
class SentenceOptions:
    """Whose sentences, and which of them are taken."""

    sentences: str = field(
        default="",
        metadata={"help": "CSV with columns text, and clip (file name) or dialogue_id and turn", "role": "file"},
    )
    name_emotion: bool = field(
        default=False,
        metadata={"help": "take sentences that name an emotion, which is a label once more", "role": "matters"},
    )


def _open(options: SentenceOptions, data: Path, dialogues: Sequence[Dialogue], seed: int, folder: Path) -> Describe:
    by_place, by_clip = _read(options)
    stems: dict[str, int] = {}
    for dialogue in dialogues:
        for turn in dialogue.turns:
            if turn.clip is not None and turn.clip.video is not None:
                stems[turn.clip.video.stem] = stems.get(turn.clip.video.stem, 0) + 1

    def describe(dialogue: Dialogue, turn: int) -> Described | Left:
        video = dialogue.turns[turn].clip.video  # type: ignore[union-attr]  # the turn has a clip with a picture
        assert video is not None
        found = by_place.get((dialogue.id, str(turn)))
        if found is None and video.stem in by_clip and stems[video.stem] > 1:
            place = f"{data}: {stems[video.stem]} clips are called {video.stem!r}; name dialogue_id and turn"
            return Left("clip whose name several have", place)
        found = by_clip.get(video.stem) if found is None else found
        if found is None:
            return Left("clip without a sentence")
        where, text = found
        named = [] if options.name_emotion else emotion_names_in(text)
        if named:
            return Left("sentence that names an emotion", f"{where}: {named[0]!r} in {text[:60]!r}")
        return Described(text)

    return describe


_Found = dict[str, tuple[str, str]]


def _read(options: SentenceOptions) -> tuple[dict[tuple[str, str], tuple[str, str]], _Found]:
    """Return (`path:line`, sentence) by dialogue and turn, and by the clip's name without its ending.

    Raises:
        DataError: the file is missing, lacks a column, or has a row that says nothing or of what comes twice.
    """
    path = Path(options.sentences)
    if not options.sentences or not path.is_file():
        raise DataError(f"sentences: {options.sentences or 'not said'}: want a CSV file with a column text")
    by_place: dict[tuple[str, str], tuple[str, str]] = {}
    by_clip: _Found = {}
    for where, row in read_csv(path, {"text"}, ImportReport("stop")):
        place = (row.get("dialogue_id", ""), row.get("turn", "").strip())
        clip = Path(row.get("clip", "").strip()).stem
        text = row["text"].strip()
        if not text or (not clip and not all(place)):
            raise DataError(
                f"{where}: want a text, and a clip or a dialogue_id and a turn; fill in or take the row out"
            )
        known = by_place.get(place) if all(place) else by_clip.get(clip)
        if known is not None:
            raise DataError(f"{where}: is about what {known[0]} describes already; keep the one that is meant")
        if all(place):
            by_place[place] = (where, text)
        else:
            by_clip[clip] = (where, text)
    if not by_place and not by_clip:
        raise DataError(f"{path}: has no sentence; want rows below its header")
    return by_place, by_clip


DESCRIBER = Describer("sentences that people wrote, in a CSV", SentenceOptions, _open)

__all__ = ["DESCRIBER", "SentenceOptions"]

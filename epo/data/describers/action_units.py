"""Source `au`: tables of facial action units, one CSV a clip, as OpenFace or py-feat write them.

The peak is the frame with the largest sum over the units that are active anywhere, after MERR (Emotion-LLaMA, arXiv
2406.11161); 0.8 on OpenFace's scale is its threshold too. That a clip's median is rest, that units of the mouth say
nothing while speech is heard, and the phrases, are our choice.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from epo.data.decoding.opening import MediaError, open_container, usable_streams
from epo.data.describers.action_unit_table import Table, TableError, read_table
from epo.data.describers.describer import Describe, Described, Describer, Left
from epo.data.describers.movement_sentences import Course, Movement, sentence, strength_of
from epo.data.dialogue import Clip, DataError, Dialogue
from epo.data.media import MediaLimits, decode_audio

_MOST_TOLD = 5
_LATER_FROM, _SLOW_FROM_S, _FADES_BELOW = 0.25, 0.4, 0.6
"""Share of the clip; seconds from half of the peak to the peak; share of the peak that is left at the end."""
_LENGTH_SLACK_S, _LENGTH_SLACK = 0.5, 0.2
_SPEECH_FROM = 0.1
"""Share of the loudest moment's level from which speech is on."""
_SILENT_BELOW = 1e-3

PHRASES: dict[int, tuple[str, ...]] = {
    1: ("the inner ends of the brows lift", "the brows go up in the middle"),
    2: ("the outer ends of the brows lift", "the brows go up at the sides"),
    4: ("the brows draw down and together", "the brows are pulled towards each other"),
    5: ("the upper lids go up", "the eyes open wider"),
    6: ("the cheeks rise", "the cheeks push up under the eyes"),
    7: ("the lids tighten", "the eyes narrow"),
    9: ("the nose wrinkles", "the skin beside the nose is pulled up"),
    10: ("the upper lip is pulled up", "the upper lip rises"),
    11: ("the folds beside the nose deepen",),
    12: ("the corners of the lips are pulled up", "the corners of the mouth rise"),
    14: ("the corners of the mouth tighten inwards", "dimples form beside the mouth"),
    15: ("the corners of the lips go down", "the corners of the mouth sink"),
    17: ("the chin pushes up", "the chin wrinkles"),
    20: ("the lips stretch sideways", "the mouth is drawn wide"),
    23: ("the lips tighten", "the lips become narrow"),
    24: ("the lips press together",),
    25: ("the lips part", "the mouth opens a gap"),
    26: ("the jaw drops", "the jaw hangs lower"),
    28: ("the lips roll inwards", "the lips are sucked in"),
    43: ("the eyes close",),
    45: ("the eyes blink",),
}
"""What each unit of the Facial Action Coding System does, in our own words."""
_WHILE_SPEAKING = {25, 26}
_NEVER = {45}
"""Blinks come by themselves."""


@dataclass(frozen=True)
class ActionUnitOptions:
    """Tables of action units, and what is told of them."""

    tables: str = field(
        default="", metadata={"help": "folder with a CSV a clip, called like the clip's video", "role": "corpus"}
    )
    table_fps: float | None = field(
        default=None, metadata={"help": "frames a second of tables without times; none: the video's", "role": "matters"}
    )
    active_from: float | None = field(
        default=None,
        metadata={
            "help": "above the clip's median; none: 0.8 of OpenFace's 0-5, 0.3 of py-feat's 0-1",
            "role": "matters",
        },
    )


def peak_frame(intensities: np.ndarray) -> int:
    """Return the row of float (F, A) with the largest sum; the first of them."""
    return int(intensities.sum(axis=1).argmax())


def describe_table(
    table: Table, speaks: np.ndarray | None, duration_s: float, active_from: float | None, rng: random.Random
) -> Described | Left:
    """Describe a clip by its action units.

    Args:
        table: of its frames with a face.
        speaks: bool (F,), whether speech is heard at each; None where that is not known.
        duration_s: of the clip.
        active_from: least intensity above the clip's median; None for the scale's own.
        rng: draws the wordings.

    Returns:
        The sentence; its evidence holds the units told, at the peak and above the median, as `AU06`. `Left` where no
        unit is active.
    """
    threshold = (0.8 if table.most == 5 else 0.3) if active_from is None else active_from
    above = np.clip(table.intensities - np.median(table.intensities, axis=0), 0, None)
    for column, unit in enumerate(table.units):
        if unit in _NEVER or unit not in PHRASES:
            above[:, column] = 0
        elif unit in _WHILE_SPEAKING and speaks is not None:
            above[speaks, column] = 0
    is_active = (above >= threshold).any(axis=0)
    if not is_active.any():
        return Left("clip in which no action unit is active")
    sums = above * is_active
    peak = peak_frame(sums)
    told = [column for column in np.argsort(-above[peak], kind="stable") if above[peak, column] >= threshold]
    if not told:  # each is active somewhere, but none where their sum is largest
        told = [int(above[peak].argmax())]
    told = told[:_MOST_TOLD]
    sizes = [above[peak, column] / table.most for column in told]
    movements = [Movement(PHRASES[table.units[c]], strength_of(s, 0.3, 0.6)) for c, s in zip(told, sizes, strict=True)]
    evidence = {f"AU{table.units[column]:02d}": round(float(above[peak, column]), 4) for column in told}
    course = _course(sums.sum(axis=1), table.times_s, peak, duration_s)
    return Described(sentence(movements, course, rng), evidence, float(table.times_s[peak]))


def _course(total: np.ndarray, times_s: np.ndarray, peak: int, duration_s: float) -> Course:
    """Return how the sum (F,) of the active units runs to its peak and from there to the end."""
    half = np.flatnonzero(total[: peak + 1] < total[peak] / 2)
    risen_from_s = times_s[half[-1]] if len(half) else times_s[0]
    begins = np.flatnonzero(total[: peak + 1] >= total[peak] / 2)
    return Course(
        "later" if times_s[begins[0]] >= _LATER_FROM * duration_s else "at once",
        "slow" if times_s[peak] - risen_from_s >= _SLOW_FROM_S else "quick",
        "fades" if total[-1] < _FADES_BELOW * total[peak] else "holds",
    )


def speech_at(clip: Clip, times_s: np.ndarray) -> np.ndarray | None:
    """Return bool (F,), whether speech is heard at moments of a clip, by its level; None where there is no sound."""
    if clip.audio is None:
        return None
    limits = MediaLimits()
    try:
        wave = decode_audio(clip.audio, clip.start_s, clip.end_s, limits)
    except MediaError:
        return None
    window = limits.sample_rate_hz // 10
    levels = np.sqrt((wave[: len(wave) // window * window].reshape(-1, window) ** 2).mean(axis=1))
    if len(levels) == 0 or levels.max() < _SILENT_BELOW:
        return np.zeros(len(times_s), dtype=bool)
    places = np.clip((times_s * 10).astype(int), 0, len(levels) - 1)
    speaks: np.ndarray = levels[places] >= _SPEECH_FROM * levels.max()
    return speaks


@dataclass(frozen=True)
class _Tables:
    """The tables of a folder, found by the names of the videos that they belong to."""

    options: ActionUnitOptions
    data: Path
    by_stem: dict[str, list[Path]]

    def find(self, video: Path) -> Path:
        """Return the table of a video: at the same path below the folder, else of the same name anywhere in it.

        Raises:
            TableError: there is none, or several.
        """
        root = self.data.parent.resolve()
        if video.resolve().is_relative_to(root):
            beside = Path(self.options.tables, video.resolve().relative_to(root)).with_suffix(".csv")
            if beside.is_file():
                return beside
        found = self.by_stem.get(video.stem, [])
        if len(found) != 1:
            reason = "clip without a table" if not found else "clip with several tables of its name"
            names = "" if not found else f" ({found[0]}, {found[1]})"
            raise TableError(reason, f"{video}: want {video.stem}.csv below {self.options.tables}{names}")
        return found[0]


def _open(options: ActionUnitOptions, data: Path, dialogues: Sequence[Dialogue], seed: int, folder: Path) -> Describe:
    if not options.tables or not Path(options.tables).is_dir():
        raise DataError(f"tables: {options.tables or 'not said'}: want the folder of the CSV files of action units")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(Path(options.tables).rglob("*.csv")):
        by_stem.setdefault(path.stem, []).append(path)
    tables = _Tables(options, data, by_stem)

    def describe(dialogue: Dialogue, turn: int) -> Described | Left:
        clip = dialogue.turns[turn].clip
        assert clip is not None and clip.video is not None
        try:
            path = tables.find(clip.video)
            seconds, fps = _length_of(clip.video)
            table = read_table(path, fps if options.table_fps is None else options.table_fps)
            _require_length(table, seconds, path)
            table = table.between(clip.start_s, clip.end_s, path)
        except TableError as error:
            return Left(error.reason, str(error))
        except MediaError as error:
            return Left("clip whose video cannot be opened", str(error))
        end_s = seconds if clip.end_s is None else clip.end_s
        rng = random.Random(f"{seed}/{dialogue.id}/{turn}")
        return describe_table(table, speech_at(clip, table.times_s), end_s - clip.start_s, options.active_from, rng)

    return describe


def _length_of(video: Path) -> tuple[float, float]:
    """Return a video's length in seconds and its frames a second, by its header."""
    with open_container(video) as container:
        streams = usable_streams(container, "video")
        if not streams or streams[0].average_rate is None or container.duration is None:
            raise MediaError(f"{video}: its header tells no picture, length or frame rate; convert the file")
        return container.duration / 1e6, float(streams[0].average_rate)


def _require_length(table: Table, seconds: float, path: Path) -> None:
    """Refuse a table that is much longer or shorter than its video: it is of another frame rate, or another clip's.

    Raises:
        TableError: it is.
    """
    if abs(table.ends_s - seconds) > max(_LENGTH_SLACK_S, _LENGTH_SLACK * seconds):
        raise TableError(
            "table of another length than its clip",
            f"{path}: ends at {table.ends_s:.2f} s, its video at {seconds:.2f} s: another frame rate (set table_fps "
            "where the table has no times) or another clip",
        )


DESCRIBER = Describer("CSV tables of OpenFace's or py-feat's action units, one a clip", ActionUnitOptions, _open)

__all__ = ["DESCRIBER", "PHRASES", "ActionUnitOptions", "describe_table", "peak_frame", "speech_at"]

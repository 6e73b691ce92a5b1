"""Source `builtin`: what was drawn for the built-in corpus's clips, told from the drawn values, never from the label.

A cue is told where it departs from rest by at least one standard deviation of what strays in every shot, whatever the
emotion; where a cue is called clear or strong, and which are told first, is our choice.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from epo.data.corpora.builtin.face import FACE_STRAY
from epo.data.corpora.builtin.voice import VOICE_STRAY
from epo.data.corpora.builtin.writer import DrawnClip, draw_again
from epo.data.describers.describer import Describe, Described, Describer, Left
from epo.data.describers.movement_sentences import Course, Movement, sentence, strength_of
from epo.data.dialogue import Dialogue

_TOLD_FROM, _CLEAR_FROM, _STRONG_FROM = 1.0, 2.0, 3.5
"""Standard deviations of what strays."""
_LATER_FROM_S, _SLOW_FROM_S, _FADES_FROM = 0.15, 0.35, 0.15

Wordings = tuple[str, ...]
_FACE: dict[str, tuple[Wordings, Wordings]] = {  # upwards or more; downwards or less
    "brow_lift": (("the brows rise", "the eyebrows go up"), ("the brows come down", "the eyebrows sink")),
    "brow_tilt": (
        ("the inner ends of the brows lift", "the brows slope up towards the middle"),
        ("the inner ends of the brows drop", "the brows draw down towards the middle"),
    ),
    "eye_open": (("the eyes widen", "the eyes open wide"), ("the eyes narrow", "the lids lower")),
    "mouth_curve": (
        ("the corners of the mouth go up", "the mouth curves upwards"),
        ("the corners of the mouth go down", "the mouth curves downwards"),
    ),
    "mouth_open": (("the mouth opens", "the lips part"), ("the lips press together", "the mouth closes tightly")),
    "mouth_width": (("the mouth stretches", "the lips widen"), ("the mouth narrows", "the lips round")),
    "sneer": (("one side of the mouth and the nose pull up", "the nose wrinkles on one side"), ()),
    "head_drop": (("the head tilts down", "the head sinks"), ("the head lifts", "the chin rises")),
    "nod": (("the head nods", "the head bobs up and down"),) * 2,
    "shake": (("the head shakes", "the head turns from side to side"),) * 2,
    "tremble": (("the head trembles", "the head quivers"),) * 2,
}
_VOICE: dict[str, tuple[Wordings, Wordings]] = {
    "level_st": (("the voice is raised", "the pitch is high"), ("the voice is lowered", "the pitch is low")),
    "range": (("the pitch moves widely", "the tune swings"), ("the pitch stays level", "the tune is flat")),
    "final_rise_st": (("the voice rises at the end",), ("the voice falls at the end",)),
    "rate": (("the words come fast", "the pace is quick"), ("the words come slowly", "the pace is slow")),
    "energy_db": (("the voice is loud",), ("the voice is soft",)),
    "tilt": (("the voice sounds dull",), ("the voice sounds sharp",)),
    "tremor_st": (("the voice trembles", "the voice shakes"),) * 2,
    "creak": (("the voice creaks", "the voice is rough"), ()),
    "breath": (("the voice is breathy", "breath is heard"), ()),
    "staccato": (("the syllables are cut short",), ("the syllables run together",)),
}
EITHER_WAY = frozenset(name for name, (more, less) in (_FACE | _VOICE).items() if more == less)
"""Cues whose sign says nothing: of these only the size can be seen or heard."""


@dataclass(frozen=True)
class BuiltinCueOptions:
    """What of the built-in corpus's drawn values is told."""

    of: Literal["face", "voice", "both"] = field(
        default="face", metadata={"help": "what is described: face, voice or both", "role": "matters"}
    )
    most_cues: int = field(
        default=4, metadata={"help": "movements a sentence tells, the strongest first", "role": "matters"}
    )

    def __post_init__(self) -> None:
        """Refuse sentences about nothing.

        Raises:
            ValueError: `most_cues` is below 1.
        """
        if self.most_cues < 1:
            raise ValueError(f"most_cues is {self.most_cues}, want 1 or more")


def describe_drawn(drawn: DrawnClip, options: BuiltinCueOptions, rng: random.Random) -> Described | Left:
    """Describe what was drawn for a clip.

    Args:
        drawn: its values.
        options: what of them is told.
        rng: draws the wordings.

    Returns:
        The sentence; its evidence holds every cue that it tells, in the units of `FaceCues` and `VoiceCues`, and the
        face's `onset_s`, `rise_s` and `fade`. `Left` where nothing departs from rest.
    """
    sentences: list[str] = []
    evidence: dict[str, float] = {}
    face = drawn.face
    is_seen = False
    if options.of != "voice":
        told = _strongest(asdict(face.cues), asdict(FACE_STRAY), _FACE, options.most_cues)
        if told:
            course = Course(
                "later" if face.course.onset_s >= _LATER_FROM_S else "at once",
                "slow" if face.course.rise_s >= _SLOW_FROM_S else "quick",
                "fades" if face.course.fade >= _FADES_FROM else "holds",
            )
            sentences.append(sentence([movement for _, movement in told], course, rng))
            evidence |= {name: getattr(face.cues, name) for name, _ in told} | asdict(face.course)
            is_seen = True
    if options.of != "face":
        told = _strongest(asdict(drawn.voice), asdict(VOICE_STRAY), _VOICE, options.most_cues)
        if told:
            sentences.append(sentence([movement for _, movement in told], None, rng))
            evidence |= {name: getattr(drawn.voice, name) for name, _ in told}
    if not sentences:
        return Left("clip in which nothing departs from rest")
    peak_s = min(face.course.onset_s + face.course.rise_s, drawn.duration_s) if is_seen else None
    return Described(" ".join(sentences), evidence, peak_s)


def _strongest(
    values: Mapping[str, float],
    strays: Mapping[str, float],
    wordings: Mapping[str, tuple[Wordings, Wordings]],
    most: int,
) -> list[tuple[str, Movement]]:
    """Return the cues that are told, the strongest first."""
    found = []
    for name, (more, less) in wordings.items():
        size = abs(values[name]) / strays[name]
        said = more if values[name] > 0 else less
        if size >= _TOLD_FROM and said:
            found.append((size, name, Movement(said, strength_of(size, _CLEAR_FROM, _STRONG_FROM))))
    found.sort(key=lambda cue: -cue[0])
    return [(name, movement) for _, name, movement in found[:most]]


def _open(options: BuiltinCueOptions, data: Path, dialogues: Sequence[Dialogue], seed: int, folder: Path) -> Describe:
    again = draw_again(data.parent.resolve())
    drawn: dict[tuple[str, int], DrawnClip] = {}

    def describe(dialogue: Dialogue, turn: int) -> Described | Left:
        clip = dialogue.turns[turn].clip
        while (dialogue.id, turn) not in drawn:  # they come in the order of the dialogues, where these were not moved
            one = next(again, None)
            if one is None:
                return Left("clip that is not the built-in corpus's", f"{data}: dialogue {dialogue.id!r}, turn {turn}")
            drawn[one.dialogue_id, one.turn] = one
        found = drawn.pop((dialogue.id, turn))
        if clip is None or clip.video is None or clip.video.resolve() != found.video.resolve():
            return Left("clip that is not the built-in corpus's", f"{data}: dialogue {dialogue.id!r}, turn {turn}")
        return describe_drawn(found, options, random.Random(f"{seed}/{dialogue.id}/{turn}"))

    return describe


DESCRIBER = Describer("the built-in corpus's drawn cues, known from its seeds", BuiltinCueOptions, _open)

__all__ = ["DESCRIBER", "EITHER_WAY", "BuiltinCueOptions", "describe_drawn"]

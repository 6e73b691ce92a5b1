"""The built-in corpus's faces: speakers made of colours and proportions, and frames in which an expression grows.

Faces are drawn with soft-edged ellipses and strokes. Which brow, eye and mouth movements belong to an emotion
follows the Facial Action Coding System (Ekman and Friesen 1978); their sizes are our choice.
"""

from dataclasses import dataclass, fields

import numpy as np

from epo.data.corpora.builtin.voice import Utterance
from epo.emotions import Emotion

SIDE_PX = 48
FPS = 8

_EDGE = 0.8  # the picture shows -0.8 to 0.8 both ways, so that a head of height 0.75 fills it
_GRID = ((np.arange(SIDE_PX, dtype=np.float32) + 0.5) / (SIDE_PX / 2) - 1) * _EDGE
_X, _Y = _GRID[None, None, :], _GRID[None, :, None]  # (1, 1, 48), (1, 48, 1); negative is left and top
_SHARPNESS = np.float32(SIDE_PX / 2 / _EDGE)  # edges fade over one pixel


@dataclass(frozen=True)
class FaceTraits:
    """What stays the same whenever a speaker is seen; colours are RGB in 0-255, lengths as in the picture's frame."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    shirt: tuple[float, float, float]
    iris: tuple[float, float, float]
    head_width: float
    head_height: float
    eye_spacing: float
    eye_size: float
    brow_thickness: float
    mouth_width: float
    rest_brow: float
    rest_curve: float


@dataclass(frozen=True)
class FaceCues:
    """How a face departs from rest, in the picture's lengths; zero everywhere is neutral.

    `brow_tilt` lifts the inner ends, `mouth_curve` the corners, `sneer` one corner and the nose; `nod`, `shake`
    and `tremble` are head movements.
    """

    brow_lift: float = 0.0
    brow_tilt: float = 0.0
    eye_open: float = 0.0
    mouth_curve: float = 0.0
    mouth_open: float = 0.0
    mouth_width: float = 0.0
    sneer: float = 0.0
    head_drop: float = 0.0
    nod: float = 0.0
    shake: float = 0.0
    tremble: float = 0.0


_CUES: dict[Emotion, FaceCues] = {
    "angry": FaceCues(-0.05, -0.11, -0.02, -0.06, -0.02, -0.04, 0.0, 0.03, 0.0, 0.05, 0.0),
    "disgust": FaceCues(-0.04, -0.04, -0.05, -0.03, 0.01, -0.02, 0.10, -0.04, 0.0, 0.0, 0.0),
    "fearful": FaceCues(0.06, 0.10, 0.06, -0.03, 0.06, 0.07, 0.0, 0.0, 0.0, 0.0, 0.03),
    "happy": FaceCues(0.03, 0.0, -0.02, 0.12, 0.04, 0.08, 0.0, -0.02, 0.05, 0.0, 0.0),
    "neutral": FaceCues(),
    "sad": FaceCues(0.0, 0.10, -0.04, -0.09, -0.02, -0.02, 0.0, 0.09, 0.0, 0.0, 0.0),
    "surprised": FaceCues(0.11, 0.0, 0.06, 0.0, 0.12, -0.09, 0.0, -0.03, 0.0, 0.0, 0.0),
}
FACE_STRAY = FaceCues(0.025, 0.03, 0.015, 0.035, 0.02, 0.025, 0.025, 0.025, 0.015, 0.015, 0.006)
"""Every shot strays this far (one standard deviation) from its cues, whatever the emotion."""


@dataclass(frozen=True)
class Course:
    """How an expression runs: it begins at `onset_s`, is whole `rise_s` later, loses the share `fade` at the end."""

    onset_s: float
    rise_s: float
    fade: float


@dataclass(frozen=True)
class Expression:
    """What one shot of a face shows: its cues, strays included, and their course."""

    cues: FaceCues
    course: Course


def draw_face(rng: np.random.Generator) -> FaceTraits:
    """Draw a speaker's colours, proportions and face at rest."""
    shade = rng.uniform(0.6, 1.0)
    return FaceTraits(
        skin=(235 * shade, (150 + 45 * shade) * shade, (110 + 50 * shade) * shade),
        hair=_draw_colour(rng, 10, 70),
        shirt=_draw_colour(rng, 30, 220),
        iris=_draw_colour(rng, 20, 110),
        head_width=rng.uniform(0.50, 0.62),
        head_height=rng.uniform(0.68, 0.80),
        eye_spacing=rng.uniform(0.20, 0.26),
        eye_size=rng.uniform(0.10, 0.13),
        brow_thickness=rng.uniform(0.035, 0.06),
        mouth_width=rng.uniform(0.21, 0.29),
        rest_brow=rng.uniform(-0.02, 0.02),
        rest_curve=rng.uniform(-0.03, 0.03),
    )


def draw_expression(emotion: Emotion, strength: float, duration_s: float, rng: np.random.Generator) -> Expression:
    """Draw how a face shows an emotion in one shot; the first draws of `film`."""
    cues = _stray_cues(emotion, strength, rng)
    onset_s = rng.uniform(0.0, 0.2) * duration_s
    return Expression(cues, Course(onset_s, rng.uniform(0.15, 0.6), rng.uniform(0, 0.3)))


def film(
    traits: FaceTraits, emotion: Emotion, strength: float, utterance: Utterance, rng: np.random.Generator
) -> np.ndarray:
    """Draw the speaker saying an utterance with an expression that grows, holds and trembles over time.

    Args:
        traits: the speaker.
        emotion: what the face shows.
        strength: 0 (neutral) to 1 (full cues).
        utterance: gives the length and the syllables the lips follow.
        rng: fixes pose, light, blinks, strays from the cues and noise.

    Returns:
        uint8 (F, 48, 48, 3) RGB frames, 8 a second.
    """
    time_s = np.arange(int(utterance.duration_s * FPS)) / FPS  # (F,)
    expression = draw_expression(emotion, strength, utterance.duration_s, rng)
    move = _animate(expression, time_s, utterance.duration_s, rng)
    move["mouth_open"] += 0.045 * _lips(time_s, utterance)
    move["eye_open"] -= 0.09 * _blinks(time_s, rng)
    frames = _draw(traits, move, rng)
    light = rng.uniform(0.85, 1.1) * (1 + 0.12 * rng.uniform(-1, 1) * _X[..., None])
    noise = rng.standard_normal(frames.shape, dtype=np.float32) * np.float32(rng.uniform(4, 9))
    lit: np.ndarray = np.clip(frames * light.astype(np.float32) + noise, 0, 255).astype(np.uint8)
    return lit


def _draw_colour(rng: np.random.Generator, low: float, high: float) -> tuple[float, float, float]:
    red, green, blue = rng.uniform(low, high, 3)
    return float(red), float(green), float(blue)


def _stray_cues(emotion: Emotion, strength: float, rng: np.random.Generator) -> FaceCues:
    values = (
        strength * getattr(_CUES[emotion], cue.name) + getattr(FACE_STRAY, cue.name) * rng.standard_normal()
        for cue in fields(FaceCues)
    )
    return FaceCues(*values)


def _animate(
    expression: Expression, time_s: np.ndarray, duration_s: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Spread the cues over time: each field of `FaceCues` as float32 (F, 1, 1), plus the head's place `x`, `y`."""
    cues, course = expression.cues, expression.course
    growth = np.clip((time_s - course.onset_s) / course.rise_s, 0, 1)
    growth *= 1 - course.fade * np.clip((time_s / duration_s - 0.7) / 0.3, 0, 1)
    move = {cue.name: getattr(cues, cue.name) * growth for cue in fields(FaceCues)}
    beat = 2 * np.pi * rng.uniform(1.2, 1.8) * time_s + rng.uniform(0, 2 * np.pi)
    drift_x, drift_y = (rng.uniform(-0.04, 0.04) + rng.uniform(-0.03, 0.03) * time_s / duration_s for _ in "xy")
    tremble = move["tremble"] * rng.standard_normal((2, len(time_s)))
    move["x"] = drift_x + move["shake"] * np.sin(beat) + tremble[0]
    move["y"] = drift_y + move["nod"] * np.sin(beat) + move["head_drop"] + tremble[1]
    return {name: values.astype(np.float32)[:, None, None] for name, values in move.items()}


def _lips(time_s: np.ndarray, utterance: Utterance) -> np.ndarray:
    """How far speech opens the mouth, float32 (F, 1, 1) in [0, 1]: widest in the middle of a syllable."""
    gap_s = np.abs(time_s[:, None] - utterance.syllables_s[None]).min(1)
    openness: np.ndarray = np.clip(1 - 2 * gap_s / utterance.syllable_width_s, 0, 1).astype(np.float32)[:, None, None]
    return openness


def _blinks(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """1 in the frames of at most one blink, else 0; float32 (F, 1, 1)."""
    blink_s = rng.uniform(0, 3)
    return (np.abs(time_s - blink_s) < 0.07).astype(np.float32)[:, None, None]


def _draw(traits: FaceTraits, move: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Paint all frames at once, back to front; float32 (F, 48, 48, 3), not yet lit."""
    x, y = _X - move["x"], _Y - move["y"]
    frames = np.empty((*np.broadcast_shapes(x.shape, y.shape), 3), dtype=np.float32)
    frames[:] = rng.uniform(90, 150) + rng.uniform(-20, 20, 3)
    _paint(frames, traits.shirt, _ellipse(x, _Y - 1.15, 0.75, 0.42))
    _paint(frames, traits.hair, _ellipse(x, y + 0.12, traits.head_width + 0.08, traits.head_height + 0.02))
    _paint(frames, traits.skin, _ellipse(x, y - 0.06, traits.head_width, traits.head_height - 0.06))
    for side in (-1, 1):
        _draw_eye(frames, traits, move, x * side, y)
    _draw_nose_and_mouth(frames, traits, move, x, y)
    return frames


def _draw_eye(
    frames: np.ndarray, traits: FaceTraits, move: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> None:
    """Paint one eye and its brow; `x` grows outwards from the middle of the face."""
    from_centre = x - traits.eye_spacing
    eye_height = np.maximum(0.6 * traits.eye_size + move["eye_open"], 0.012)
    white = _ellipse(from_centre, y + 0.14, traits.eye_size * 1.25, eye_height)
    _paint(frames, (240, 240, 236), white)
    _paint(frames, traits.iris, white * _ellipse(from_centre, y + 0.14, 0.055, 0.06))
    brow_y = y + 0.31 + traits.rest_brow + move["brow_lift"] - move["brow_tilt"] * from_centre / traits.eye_size
    reach = np.clip((1.5 * traits.eye_size - np.abs(from_centre)) * _SHARPNESS + 0.5, 0, 1)
    _paint(frames, traits.hair, reach * _stroke(brow_y, traits.brow_thickness))


def _draw_nose_and_mouth(
    frames: np.ndarray, traits: FaceTraits, move: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> None:
    shadow = tuple(0.78 * channel for channel in traits.skin)
    sneer = np.maximum(move["sneer"], 0)
    _paint(frames, shadow, _ellipse(x, y - 0.10 + 0.4 * sneer, 0.05 + 0.3 * sneer, 0.06))
    _paint(frames, shadow, np.clip(8 * sneer, 0, 1) * _stroke(y + 0.02 + 1.5 * np.abs(x), 0.02))
    width = np.maximum(traits.mouth_width + move["mouth_width"], 0.07)
    along = x / width  # -1 at the left corner, 1 at the right
    curve = traits.rest_curve + move["mouth_curve"]
    middle = y - 0.40 + curve * (along**2 - 0.4) + sneer * np.clip(along, 0, 1)
    opening = np.maximum(0.012 + move["mouth_open"], 0.004) * np.sqrt(np.clip(1 - along**2, 0, 1))
    reach = np.clip((1 - np.abs(along)) * width * _SHARPNESS + 0.5, 0, 1)
    lips = (0.70 * traits.skin[0], 0.28 * traits.skin[1], 0.30 * traits.skin[2])
    _paint(frames, lips, reach * _stroke(middle, opening + 0.035))
    _paint(frames, (45, 12, 16), reach * _stroke(middle, opening))


def _ellipse(x: np.ndarray, y: np.ndarray, width: float, height: float | np.ndarray) -> np.ndarray:
    """Cover of a soft-edged ellipse, float32 (F, 48, 48) in [0, 1]; width and height are half axes."""
    radius = np.sqrt((x / width) ** 2 + (y / height) ** 2)
    cover: np.ndarray = np.clip((1 - radius) * np.minimum(width, height) * _SHARPNESS + 0.5, 0, 1)
    return cover


def _stroke(distance: np.ndarray, half_thickness: float | np.ndarray) -> np.ndarray:
    """Cover of a soft-edged band around distance 0."""
    cover: np.ndarray = np.clip((half_thickness - np.abs(distance)) * _SHARPNESS + 0.5, 0, 1)
    return cover


def _paint(frames: np.ndarray, colour: tuple[float, ...], cover: np.ndarray) -> None:
    """Blend a colour into the frames in place where `cover` says so."""
    frames += cover[..., None] * (np.asarray(colour, dtype=np.float32) - frames)

"""A waveform as an inline SVG: time marks, a scale that fits the sound, and how loud it is in numbers."""

from dataclasses import dataclass

import numpy as np

from epo.data.examination import FLOOR_DBFS

WIDTH, HEIGHT = 600, 80
"""Of the drawing, in pixels, without its time axis."""
_MAX_MARKS = 12


@dataclass(frozen=True)
class Waveform:
    """What a page draws of a sound.

    Attributes:
        path: SVG path of the filled outline, in pixels.
        marks: (place in pixels, seconds) of the time axis; seconds count from the beginning of the file.
        full_scale: the amplitude that the upper edge stands for, in (0, 1].
        rms_dbfs: loudness.
        peak_dbfs: of the largest sample.
        seconds: length.
    """

    path: str
    marks: tuple[tuple[float, str], ...]
    full_scale: float
    rms_dbfs: float
    peak_dbfs: float
    seconds: float


def draw_waveform(samples: np.ndarray, rate_hz: int, start_s: float = 0.0, columns: int = WIDTH) -> Waveform:
    """Draw the range of the samples of each column.

    Args:
        samples: float32 (S,) in [-1, 1], S at least 1.
        rate_hz: samples a second.
        start_s: where the sound begins in its file, for the time marks.
        columns: of the outline, at most one a pixel.
    """
    peak = float(np.abs(samples).max())
    scale = peak if peak > 0 else 1.0
    columns = min(columns, WIDTH, len(samples))
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    highs, lows = (extreme.reduceat(samples, edges) / scale for extreme in (np.maximum, np.minimum))
    xs = (np.arange(columns) + 0.5) * WIDTH / columns
    seconds = len(samples) / rate_hz
    return Waveform(
        path=_outline(xs, highs, lows),
        marks=_marks(start_s, seconds),
        full_scale=scale,
        rms_dbfs=_dbfs(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))),
        peak_dbfs=_dbfs(peak),
        seconds=seconds,
    )


def _outline(xs: np.ndarray, highs: np.ndarray, lows: np.ndarray) -> str:
    """Return the path along the highs and back along the lows; at least a pixel thick, so that silence shows."""
    middle = HEIGHT / 2
    tops, bottoms = middle * (1 - highs) - 0.5, middle * (1 - lows) + 0.5
    there = [f"{x:.0f} {y:.1f}" for x, y in zip(xs, tops, strict=True)]
    back = [f"{x:.0f} {y:.1f}" for x, y in zip(xs[::-1], bottoms[::-1], strict=True)]
    return "M" + "L".join(there + back) + "Z"


def _marks(start_s: float, seconds: float) -> tuple[tuple[float, str], ...]:
    steps = (step * 10**power for power in range(-3, 4) for step in (1, 2, 5))
    step = next((step for step in steps if seconds / step <= _MAX_MARKS), seconds)
    first = int(np.ceil(start_s / step - 1e-9))
    last = int(np.floor((start_s + seconds) / step + 1e-9))
    return tuple(((index * step - start_s) / seconds * WIDTH, f"{index * step:g}") for index in range(first, last + 1))


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DBFS, 20 * float(np.log10(max(amplitude, 1e-12))))


__all__ = ["HEIGHT", "WIDTH", "Waveform", "draw_waveform"]

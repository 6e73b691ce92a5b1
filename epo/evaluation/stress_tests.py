"""Stress tests: harder or easier conditions that a model is tested under, a row each, as a recipe names them."""

from collections.abc import Sequence
from dataclasses import dataclass

from epo.data.clip_damage import ClipDamage

ORACLE = "oracle"
_WANT = "want noise=DECIBELS (-100 to 100), blur=PERCENT (0.01 to 100) or oracle"


class StressError(ValueError):
    """A condition that is none, or comes twice; the message says what is wanted."""


@dataclass(frozen=True)
class StressTest:
    """One condition.

    Attributes:
        name: what its rows are called after the model.
        damage: of the clips, None for none.
        tells_emotion: whether the model is told the emotion that the user's turn is labelled with.
    """

    name: str
    damage: ClipDamage | None = None
    tells_emotion: bool = False


def stress_tests(words: Sequence[str], seed: int = 0) -> list[StressTest]:
    """Return the conditions that a recipe names.

    Args:
        words: `noise=10`: white noise, so many decibels below the sound's mean power; `blur=2`: a Gaussian blur, so
            many percent of a picture's shorter side wide; `oracle`: the user's labelled emotion is told.
        seed: of the noise.

    Raises:
        StressError: a word is none of these, or says the same as another.
    """
    found = [_stress_test(word, seed) for word in words]
    for place, test in enumerate(found):
        if test in found[:place]:
            raise StressError(f"stress has {words[place]!r} twice; name each once")
    return found


def _stress_test(word: str, seed: int) -> StressTest:
    if word == ORACLE:
        return StressTest("oracle emotion word", tells_emotion=True)
    kind, _, level_word = word.partition("=")
    try:
        level = float(level_word)
    except ValueError:
        level = float("nan")
    if kind == "noise" and -100 <= level <= 100:
        return StressTest(f"noise at {level:g} dB", ClipDamage(snr_db=level, seed=seed))
    if kind == "blur" and 0.01 <= level <= 100:
        return StressTest(f"blur of {level:g} %", ClipDamage(blur_percent=level))
    raise StressError(f"stress has {word!r}, {_WANT}")


__all__ = ["ORACLE", "StressError", "StressTest", "stress_tests"]

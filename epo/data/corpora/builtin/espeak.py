"""Spoken voices: the built-in corpus's user turns said aloud by eSpeak NG, the emotion only in how they are said.

eSpeak NG (GPL-3.0-or-later) is called as a program that the machine has; nothing of it is shipped. Pitch level and
range, rate and energy follow the table of `epo.data.corpora.builtin.voice`, pauses the one below: their sizes, the
voices and who has which are our choice. What the program cannot do (tremor, creak, breath, brightness) is left out.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np

from epo.data.corpora.builtin.voice import SAMPLE_RATE_HZ, Utterance, VoiceCues, record, stray_cues
from epo.data.dialogue import DataError, Split
from epo.emotions import Emotion

VOICES: dict[Split, tuple[str, ...]] = {
    "train": ("m1", "f1", "m3", "f3", "m5", "m7"),
    "validation": ("m2", "f2"),
    "test": ("m4", "f4", "m6"),
}
"""Voices of each split: none of them speaks in another one."""
ACCENTS = ("en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
"""Plain en-gb is not among them: eSpeak NG 1.51 gives it one and the same voice whichever is asked for."""

_PROGRAM = "espeak-ng"
_LONGEST_S = 60
_PITCH_PER_ST = 5.5
"""Steps of `-p`, 0 to 99 around 50, that are about a semitone: measured, 110, 175 and 302 Hz at 0, 50 and 99."""
_PAUSE_10MS: dict[Emotion, float] = {
    "angry": 1.0, "disgust": 2.0, "fearful": 0.0, "happy": 0.0, "neutral": 0.0, "sad": 4.0, "surprised": 0.0,
}  # fmt: skip
"""Between words, in hundredths of a second at the usual speed."""


class EspeakError(DataError):
    """The program is missing, lacks a voice, or cannot speak; says what to do."""


class SpokenVoice(NamedTuple):
    """A speaker: the program's voice, and what stays the same whenever they speak."""

    name: str
    level_st: float
    words_per_minute: float


@cache
def espeak_version() -> str:
    """Return the version of the program, such as "1.51", once it is known to have all voices.

    Raises:
        EspeakError: it is not there, or lacks a voice, in whose place it would take another without a word.
    """
    if shutil.which(_PROGRAM) is None:
        raise EspeakError(
            f"voice: espeak needs the program {_PROGRAM}, which is not on the path: apt-get install espeak-ng, or set "
            "voice: vowels"
        )
    said = _run("--version").decode(errors="replace")
    found = re.search(r"text-to-speech:\s*(\S+).*?Data at:\s*(.+)", said)
    if found is None:
        raise EspeakError(f"voice: espeak: {_PROGRAM} --version says {said[:80]!r}; want eSpeak NG 1.50 or later")
    folder = Path(found[2].strip())
    lacking = [name for names in VOICES.values() for name in names if not (folder / "voices" / "!v" / name).is_file()]
    known = _run("--voices=en").decode(errors="replace").split()
    lacking += [accent for accent in ACCENTS if accent not in known]
    if lacking:
        raise EspeakError(
            f"voice: espeak: {_PROGRAM} {found[1]} lacks the voice {lacking[0]!r} below {folder}; install "
            "espeak-ng-data whole, or set voice: vowels"
        )
    return found[1]


def draw_spoken_voice(seed: int, split: Split, speaker: int) -> SpokenVoice:
    """Return a speaker of a split: voices and accents by turns, the rest drawn."""
    names = VOICES[split]
    name = f"{ACCENTS[speaker // len(names) % len(ACCENTS)]}+{names[speaker % len(names)]}"
    rng = np.random.default_rng([seed, sorted(VOICES).index(split), speaker, 7])
    return SpokenVoice(name, rng.uniform(-2.0, 2.0), rng.uniform(185.0, 215.0))


def speak_words(
    voice: SpokenVoice, text: str, emotion: Emotion, strength: float, rng: np.random.Generator
) -> Utterance:
    """Let a speaker say words in an emotion. The bytes depend on the arguments and the program's version alone.

    Args:
        voice: the speaker.
        text: what is said; never seen by a shell.
        emotion: what the voice shows.
        strength: 0 (neutral) to 1 (full cues).
        rng: fixes the strays from the cues and the noise.

    Raises:
        EspeakError: the program is missing, fails, or says nothing.
    """
    drawn = stray_cues(emotion, strength, rng)
    cues = VoiceCues(level_st=drawn.level_st, range=drawn.range, rate=drawn.rate, energy_db=drawn.energy_db)
    pitch = np.clip(round(50 + _PITCH_PER_ST * (voice.level_st + cues.level_st)), 0, 99)
    speed = np.clip(round(voice.words_per_minute * np.exp(cues.rate)), 80, 400)
    pause = round(strength * _PAUSE_10MS[emotion])
    words = f'<prosody range="{round(100 * np.exp(cues.range))}%">{escape(text)}</prosody>'
    sound = _run(
        "-b", "1", "-m", "-z", "-v", voice.name, "-p", str(pitch), "-s", str(speed), "-g", str(pause), "-a", "80",
        "--stdin", "--stdout", words=words,
    )  # fmt: skip
    wave = _at_our_rate(sound)
    if len(wave) < SAMPLE_RATE_HZ // 10:
        raise EspeakError(f"voice: espeak: {_PROGRAM} says nothing for {text[:60]!r}; set voice: vowels")
    middles_s, width_s = _syllables(wave)
    return Utterance(record(wave, cues.energy_db, rng), middles_s, width_s, cues)


def _run(*arguments: str, words: str = "") -> bytes:
    try:
        done = subprocess.run(
            [_PROGRAM, *arguments], input=words.encode(), capture_output=True, timeout=_LONGEST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EspeakError(f"voice: espeak: {_PROGRAM} cannot be run ({error}); set voice: vowels") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:80]
        raise EspeakError(f"voice: espeak: {_PROGRAM} ended with {done.returncode} ({said}); set voice: vowels")
    return done.stdout


def _at_our_rate(sound: bytes) -> np.ndarray:
    """Return a WAV stream, whose header cannot know its length, at our sampling rate: float64 (S,)."""
    from scipy.signal import resample_poly

    rate, begin = int.from_bytes(sound[24:28], "little"), sound.find(b"data") + 8
    if rate == 0 or begin < 8:
        return np.zeros(0)
    samples = np.frombuffer(sound[begin : begin + (len(sound) - begin) // 2 * 2], "<i2") / 32768
    divisor = int(np.gcd(rate, SAMPLE_RATE_HZ))
    wave: np.ndarray = resample_poly(samples, SAMPLE_RATE_HZ // divisor, rate // divisor)
    return wave


def _syllables(wave: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middles of the loud places that the lips follow, and their mean width, in seconds."""
    from scipy.signal import find_peaks

    hop = SAMPLE_RATE_HZ // 100
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    level = np.convolve(np.sqrt((frames**2).mean(axis=1)), np.hanning(9) / np.hanning(9).sum(), mode="same")
    peaks, _ = find_peaks(level, distance=10, prominence=0.05 * level.max())
    if len(peaks) == 0:
        peaks = np.array([level.argmax()])
    return (peaks + 0.5) / 100, len(level) / 100 / len(peaks)


__all__ = ["ACCENTS", "VOICES", "EspeakError", "SpokenVoice", "draw_spoken_voice", "espeak_version", "speak_words"]

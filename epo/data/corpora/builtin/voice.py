"""The built-in corpus's voices: speakers made of numbers, and an utterance whose emotion is only in how it sounds.

A glottal wavetable is read at a moving pitch and filtered by one set of formants a syllable. The cues (pitch
level and contour, energy, rate, spectral tilt, tremor, creak, breath) follow the usual findings on vocal
emotion, e.g. Banse and Scherer 1996; their sizes are our choice.
"""

from dataclasses import dataclass, fields

import numpy as np

from epo.emotions import Emotion

SAMPLE_RATE_HZ = 16000
_VOWELS_HZ = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]], dtype=float
)
_BANDWIDTHS_HZ = np.array([80.0, 110.0, 160.0])
_TABLE_SIZE = 2048


@dataclass(frozen=True)
class VoiceTraits:
    """What stays the same whenever a speaker speaks."""

    pitch_hz: float
    pitch_range_st: float
    syllables_per_s: float
    formant_scale: float
    tilt: float
    breath: float


@dataclass(frozen=True)
class VoiceCues:
    """How an utterance departs from the speaker's neutral manner; zero everywhere is neutral.

    Units: `_st` semitones, `_db` decibels, `rate`, `range` and `staccato` natural logarithms of a factor, `tilt` the
    exponent added to the harmonics' decay, `breath` and `creak` amplitudes relative to the voice.
    """

    level_st: float = 0.0
    range: float = 0.0
    final_rise_st: float = 0.0
    syllable_fall_st: float = 0.0
    rate: float = 0.0
    energy_db: float = 0.0
    tilt: float = 0.0
    tremor_st: float = 0.0
    creak: float = 0.0
    breath: float = 0.0
    staccato: float = 0.0


@dataclass(frozen=True)
class Utterance:
    """Sound, float32 (S,) in [-1, 1], with the syllables the lips follow: their middles and widths in seconds.

    `cues` are those it was made with, strays included.
    """

    waveform: np.ndarray
    syllables_s: np.ndarray
    syllable_width_s: float
    cues: VoiceCues = VoiceCues()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / SAMPLE_RATE_HZ


_CUES: dict[Emotion, VoiceCues] = {
    "angry": VoiceCues(2.5, 0.45, -2.0, 4.0, 0.20, 8.0, -0.55, 0.0, 0.10, 0.0, 0.6),
    "disgust": VoiceCues(-2.5, -0.10, -2.5, 2.0, -0.28, -1.0, 0.10, 0.0, 0.70, 0.10, 0.2),
    "fearful": VoiceCues(5.0, -0.20, 1.0, 0.0, 0.32, -2.0, 0.15, 1.3, 0.0, 0.45, 0.1),
    "happy": VoiceCues(3.0, 0.70, 1.5, -2.5, 0.14, 4.0, -0.30, 0.0, 0.0, 0.05, -0.1),
    "neutral": VoiceCues(),
    "sad": VoiceCues(-2.0, -0.80, -2.0, 0.0, -0.42, -8.0, 0.55, 0.3, 0.10, 0.30, -0.4),
    "surprised": VoiceCues(3.5, 0.35, 9.0, -1.0, -0.06, 3.0, -0.15, 0.0, 0.0, 0.10, -0.3),
}
VOICE_STRAY = VoiceCues(1.2, 0.22, 1.3, 0.9, 0.08, 2.0, 0.12, 0.15, 0.08, 0.05, 0.12)
"""Every utterance strays this far (one standard deviation) from its cues, whatever the emotion."""


def draw_voice(rng: np.random.Generator) -> VoiceTraits:
    """Draw a speaker: pitch 95-240 Hz, own range, tempo, vocal tract length, brightness and breath."""
    return VoiceTraits(
        pitch_hz=95.0 * (240.0 / 95.0) ** rng.uniform(),
        pitch_range_st=rng.uniform(1.6, 3.2),
        syllables_per_s=rng.uniform(4.0, 5.4),
        formant_scale=rng.uniform(0.9, 1.15),
        tilt=rng.uniform(0.95, 1.25),
        breath=rng.uniform(0.01, 0.06),
    )


def speak(traits: VoiceTraits, emotion: Emotion, strength: float, rng: np.random.Generator) -> Utterance:
    """Synthesise 1.5 to 2 seconds of meaningless syllables in an emotion.

    Args:
        traits: the speaker.
        emotion: what the voice shows.
        strength: 0 (neutral) to 1 (full cues).
        rng: fixes the syllables, the strays from the cues and the noise.
    """
    cues = stray_cues(emotion, strength, rng)
    num_samples = int(rng.uniform(1.5, 2.0) * SAMPLE_RATE_HZ)
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    edges = _syllable_edges(num_samples, traits.syllables_per_s * np.exp(cues.rate), rng)
    position = _position_in_syllable(edges, num_samples)
    tremor = np.sin(2 * np.pi * rng.uniform(6, 8) * time_s)
    pitch_hz = _pitch(traits, cues, edges, position, time_s, rng) * 2 ** (cues.tremor_st / 12 * tremor)
    attack = np.exp(-0.08 * cues.energy_db)  # louder syllables begin sooner
    envelope = np.sin(np.pi * position**attack) ** (1.3 * np.exp(cues.staccato)) * (1 + 0.3 * cues.tremor_st * tremor)
    source = _glottal_source(pitch_hz, traits.tilt + cues.tilt, rng)
    source *= 1.0 + max(cues.creak, 0.0) * np.sign(np.sin(np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ))
    source += (traits.breath + max(cues.breath, 0.0)) * rng.standard_normal(num_samples)
    voiced = _apply_formants(source * envelope, edges, traits.formant_scale, rng)
    middles_s = (edges[:-1] + edges[1:]) / (2 * SAMPLE_RATE_HZ)
    waveform = record(voiced, cues.energy_db, rng)
    return Utterance(waveform, middles_s, float(np.diff(edges).mean() / SAMPLE_RATE_HZ), cues)


def stray_cues(emotion: Emotion, strength: float, rng: np.random.Generator) -> VoiceCues:
    """Return the cues of one utterance: those of the emotion, as strong as they are, and its strays."""
    values = (
        strength * getattr(_CUES[emotion], cue.name) + getattr(VOICE_STRAY, cue.name) * rng.standard_normal()
        for cue in fields(VoiceCues)
    )
    return VoiceCues(*values)


def _syllable_edges(num_samples: int, syllables_per_s: float, rng: np.random.Generator) -> np.ndarray:
    """Sample numbers at which syllables begin, int64 (N + 1,), the last being `num_samples`."""
    count = max(3, round(syllables_per_s * num_samples / SAMPLE_RATE_HZ))
    lengths = rng.uniform(0.75, 1.25, count)
    return np.concatenate([[0], np.cumsum(lengths / lengths.sum()) * num_samples]).round().astype(np.int64)


def _position_in_syllable(edges: np.ndarray, num_samples: int) -> np.ndarray:
    """How far each sample is through its syllable, float64 (S,) in [0, 1)."""
    lengths = np.diff(edges)
    phase: np.ndarray = (np.arange(num_samples) - np.repeat(edges[:-1], lengths)) / np.repeat(lengths, lengths)
    return phase


def _pitch(
    traits: VoiceTraits,
    cues: VoiceCues,
    edges: np.ndarray,
    position: np.ndarray,
    time_s: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Pitch in Hz before tremor, float64 (S,): declination, an accent a syllable, the phrase's end."""
    progress = time_s / time_s[-1]
    accents_st = traits.pitch_range_st * np.exp(cues.range) * rng.standard_normal(len(edges) - 1)
    tune_st = cues.level_st + 2.0 * (0.5 - progress)
    tune_st += np.repeat(accents_st, np.diff(edges)) * np.sin(np.pi * position)
    tune_st += cues.syllable_fall_st * (0.5 - position)
    tune_st += cues.final_rise_st * np.clip((progress - 0.6) / 0.4, 0, 1) ** 1.5
    pitch_hz: np.ndarray = np.clip(traits.pitch_hz * 2.0 ** (tune_st / 12), 60.0, 480.0)
    return pitch_hz


def _glottal_source(pitch_hz: np.ndarray, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """Read a wavetable whose harmonics decay as h ** -tilt at a moving pitch; float64 (S,)."""
    num_harmonics = int(0.48 * SAMPLE_RATE_HZ / pitch_hz.max())
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=complex)
    spectrum[1 : num_harmonics + 1] = -1j * np.arange(1, num_harmonics + 1) ** -max(tilt, 0.3)
    table = np.fft.irfft(spectrum)
    table /= np.abs(table).max()
    phase = np.cumsum(pitch_hz) / SAMPLE_RATE_HZ + rng.uniform()
    return table[(phase * _TABLE_SIZE).astype(np.int64) % _TABLE_SIZE]


def _apply_formants(
    source: np.ndarray, edges: np.ndarray, formant_scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Filter each syllable by the three resonances of a random vowel, carrying the filter's state over."""
    from scipy.signal import sosfilt  # here, since its import takes longer than planning a corpus

    output = np.empty_like(source)
    state = np.zeros((3, 2))
    vowels = rng.integers(len(_VOWELS_HZ), size=len(edges) - 1)
    for start, end, vowel in zip(edges[:-1], edges[1:], vowels, strict=True):
        resonators = _resonators(_VOWELS_HZ[vowel] * formant_scale * rng.uniform(0.94, 1.06))
        output[start:end], state = sosfilt(resonators, source[start:end], zi=state)
    return output


def _resonators(formants_hz: np.ndarray) -> np.ndarray:
    """Second-order sections (3, 6) with unit gain at 0 Hz, one a formant."""
    radius = np.exp(-np.pi * _BANDWIDTHS_HZ / SAMPLE_RATE_HZ)
    middle = -2 * radius * np.cos(2 * np.pi * formants_hz / SAMPLE_RATE_HZ)
    sections = np.zeros((3, 6))
    sections[:, 0] = 1 + middle + radius**2
    sections[:, 3], sections[:, 4], sections[:, 5] = 1.0, middle, radius**2
    return sections


def record(voiced: np.ndarray, energy_db: float, rng: np.random.Generator) -> np.ndarray:
    """Set the level, as a microphone at a random distance in a noisy room would; float32 (S,) in [-1, 1]."""
    rms = np.sqrt(np.mean(voiced**2))
    level_db = -24.0 + energy_db + rng.uniform(-3, 3)
    noise_db = rng.uniform(-55, -45)
    noise = rng.standard_normal(len(voiced)) * 10 ** (noise_db / 20)
    wave: np.ndarray = np.clip(voiced * (10 ** (level_db / 20) / rms) + noise, -1, 1).astype(np.float32)
    return wave

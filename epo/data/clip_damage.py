"""Damage: what a decoded clip becomes where its sound is noisy or its picture blurred."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from epo.data.media import Media


@dataclass(frozen=True)
class ClipDamage:
    """Noise over the sound, or blur over the pictures.

    Attributes:
        snr_db: white Gaussian noise, so much fainter than the sound's mean power over the clip, in decibels; None for
            none. Silence stays silent, for nothing is fainter than it by a ratio.
        blur_percent: standard deviation of a Gaussian blur in percent of a picture's shorter side; None for none.
        seed: of the noise, which for the same clip is always the same.
    """

    snr_db: float | None = None
    blur_percent: float | None = None
    seed: int = 0

    def __call__(self, media: Media) -> Media:
        """Return a clip as it is heard and seen through this damage; a half that is absent stays so."""
        sound, pictures = media.waveform, media.frames
        if sound is not None and self.snr_db is not None:
            media = replace(media, waveform=self._noisy(sound, self.snr_db))
        if pictures is not None and self.blur_percent is not None:
            media = replace(media, frames=_blurred(pictures, self.blur_percent))
        return media

    def _noisy(self, sound: np.ndarray, snr_db: float) -> np.ndarray:
        power = float(np.mean(np.square(sound, dtype=np.float64)))
        rng = np.random.default_rng((self.seed, zlib.crc32(np.ascontiguousarray(sound).tobytes())))
        noise = rng.standard_normal(len(sound)) * np.sqrt(power / 10 ** (snr_db / 10))
        noisy: np.ndarray = (sound + noise).astype(np.float32)
        return noisy


def _blurred(pictures: np.ndarray, percent: float) -> np.ndarray:
    from PIL import Image, ImageFilter

    blur = ImageFilter.GaussianBlur(percent / 100 * min(pictures.shape[1:3]))
    return np.stack([np.asarray(Image.fromarray(picture).filter(blur)) for picture in pictures])


__all__ = ["ClipDamage"]

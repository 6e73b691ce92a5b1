"""Damage to clips: as much noise as is said, a blur as wide as is said, always the same, and nothing else changed."""

import numpy as np
import pytest

from epo.data.clip_damage import ClipDamage
from epo.data.media import Media

TONE = (0.2 * np.sin(np.arange(160_000) / 9)).astype(np.float32)


@pytest.mark.parametrize(("snr_db", "share"), [(20, 0.01), (10, 0.1), (0, 1.0), (-10, 10.0)])
def test_the_noise_has_so_much_of_the_sound_s_power(snr_db, share):
    noisy = ClipDamage(snr_db=snr_db)(Media(TONE, None)).waveform
    noise = noisy.astype(np.float64) - TONE
    assert np.mean(noise**2) == pytest.approx(share * np.mean(TONE.astype(np.float64) ** 2), rel=0.02)
    assert noisy.dtype == np.float32 and abs(np.mean(noise)) < 0.01


def test_the_noise_is_the_same_for_the_same_clip_and_seed_alone():
    def noise(sound, **settings):
        return ClipDamage(snr_db=10, **settings)(Media(sound, None)).waveform - sound

    assert (noise(TONE) == noise(TONE)).all()
    assert not np.allclose(noise(TONE), noise(TONE, seed=1)) and not np.allclose(noise(TONE), noise(-TONE))


def test_an_edge_is_blurred_by_the_share_of_the_shorter_side():
    """Four per cent of 100 px are 4 px; so far behind the edge a Gaussian has 84.1 % of its mass."""
    edge = np.zeros((2, 100, 140, 3), np.uint8)
    edge[:, :, 70:] = 255
    blurred = ClipDamage(blur_percent=4)(Media(None, edge)).frames
    assert blurred.shape == edge.shape and blurred.dtype == np.uint8
    middle = blurred[1, 50, :, 0].astype(float)
    assert (middle[69] + middle[70]) / 2 == pytest.approx(127.5, abs=2)
    assert (middle[73] + middle[74]) / 2 == pytest.approx(0.841 * 255, abs=6)
    assert middle[40] == 0 and middle[100] == 255


def test_what_is_not_there_or_not_damaged_stays():
    frames = np.full((1, 8, 8, 3), 7, np.uint8)
    seen = ClipDamage(snr_db=0)(Media(None, frames))
    assert seen.waveform is None and seen.frames is frames
    heard = ClipDamage(blur_percent=5)(Media(TONE, None))
    assert heard.frames is None and heard.waveform is TONE
    silent = ClipDamage(snr_db=0)(Media(np.zeros(10, np.float32), None)).waveform
    assert (silent == 0).all()

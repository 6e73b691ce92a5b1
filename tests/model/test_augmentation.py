"""Changes to clips while training: bounded, alike within a clip, and none at strength 0."""

import torch

from epo.model.augmentation import augment_audio, augment_video


def test_strength_zero_changes_nothing():
    torch.manual_seed(0)
    audio, video = torch.randn(2, 16, 9), torch.randn(2, 3, 3, 16, 16)
    assert augment_audio(audio, 0.0).equal(audio)
    assert augment_video(video, 0.0).equal(video)


def test_pitch_moves_by_whole_bins_and_level_by_a_bounded_constant():
    torch.manual_seed(0)
    audio = torch.arange(16.0).view(1, 16, 1).expand(50, -1, 9)
    change = augment_audio(audio, 1.0) - audio
    middle = change[:, 4:12]
    assert (middle - middle[:, :1, :1]).abs().max() < 1e-5  # one change for the whole clip
    shifts = middle[:, 0, 0]
    assert shifts.abs().max() <= 2.2 and shifts.round().unique().numel() == 5
    assert (shifts - shifts.round()).abs().max() <= 0.2 + 1e-5


def test_frames_of_a_clip_change_alike():
    """All frames of one clip are equal before, and so they are after; clips differ from each other."""
    torch.manual_seed(0)
    video = torch.randn(1, 1, 3, 48, 48).expand(4, 5, -1, -1, -1)
    changed = augment_video(video, 1.0)
    assert changed.shape == video.shape
    assert (changed - changed[:, :1]).abs().max() == 0
    assert (changed[0] - changed[1]).abs().max() > 0.01


def test_pictures_shift_at_most_six_percent_of_the_width():
    """One white pixel in the middle of 48 stays within three pixels, mirrored or not (its column 24 becomes 23)."""
    torch.manual_seed(0)
    video = torch.zeros(40, 1, 3, 48, 48)
    video[..., 24, 24] = 100.0
    places = augment_video(video, 1.0)[:, 0, 0].flatten(1).argmax(dim=1)
    rows, columns = places // 48, places % 48
    assert rows.min() >= 21 and rows.max() <= 27 and rows.unique().numel() > 3
    assert columns.min() >= 20 and columns.max() <= 27

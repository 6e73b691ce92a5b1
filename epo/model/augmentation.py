"""Training-time changes to clips that keep their emotion: level, mel shift, brightness, colour, shift, mirror."""

import torch
from torch import Tensor
from torch.nn import functional


def augment_audio(features: Tensor, strength: float) -> Tensor:
    """Vary level and pitch of log-mel features.

    Args:
        features: float (B, mels, T), Whisper's log-mel.
        strength: 0 changes nothing; 1 shifts by up to 2 mel bins and 0.2 log units (our choice).
    """
    gains = (torch.rand(features.size(0), 1, 1, device=features.device) * 2 - 1) * 0.2 * strength
    shifts = ((torch.rand(features.size(0), device=features.device) * 2 - 1) * 2.49 * strength).round().long()
    bins = torch.arange(features.size(1), device=features.device)
    source = (bins.unsqueeze(0) - shifts.unsqueeze(1)).clamp(0, features.size(1) - 1)
    return features.gather(1, source.unsqueeze(-1).expand_as(features)) + gains


def augment_level(waveforms: Tensor, strength: float) -> Tensor:
    """Vary the level of waveforms; their pitch stays, since a shift would change their length.

    Args:
        waveforms: float (B, 1, T).
        strength: 0 changes nothing; 1 varies by up to 8 dB, which is 0.2 in the units of `augment_audio` (our choice).
    """
    decibels = (torch.rand(waveforms.size(0), 1, 1, device=waveforms.device) * 2 - 1) * 8 * strength
    return waveforms * 10 ** (decibels / 20)


def augment_video(frames: Tensor, strength: float) -> Tensor:
    """Vary brightness and colour, shift, and mirror the frames of a clip alike.

    Args:
        frames: float (B, F, 3, H, W), normalised.
        strength: 0 changes nothing; 1 shifts by up to 6 % of the width (our choice).
    """
    batch, device = frames.size(0), frames.device
    brightness = (torch.rand(batch, 1, 1, 1, 1, device=device) * 2 - 1) * 0.3 * strength
    colour = (torch.rand(batch, 1, 3, 1, 1, device=device) * 2 - 1) * 0.2 * strength
    frames = frames * (1 + colour) + brightness
    mirrored = torch.rand(batch, 1, 1, 1, 1, device=device) < 0.5 * min(strength, 1.0)
    frames = torch.where(mirrored, frames.flip(-1), frames)
    reach = max(0, round(0.06 * strength * frames.size(-1)))
    return _shift(frames, reach) if reach > 0 else frames


def _shift(frames: Tensor, reach: int) -> Tensor:
    """Move each clip's picture by up to `reach` pixels both ways, repeating the border."""
    height, width = frames.shape[-2:]
    padded = functional.pad(frames.flatten(1, 2), (reach,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * reach + 1, (frames.size(0), 2)).tolist()
    moved = [clip[:, y : y + height, x : x + width] for clip, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack(moved).view_as(frames)

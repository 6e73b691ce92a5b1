"""Clips become features: decoding, what the encoder hears, normalised frames, and their batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor

from epo.data.cache import ClipCache
from epo.data.clip_damage import ClipDamage
from epo.data.dialogue import Clip
from epo.data.face_crop import crop_to_face
from epo.data.media import READER_VERSION, MediaLimits, decode_clip
from epo.model.hearing import Hearing, hearing_by
from epo.model.seeing import frame_size_of, processor_class


@dataclass(frozen=True)
class ClipFeatures:
    """What the encoders read of one clip; either half may be absent.

    Attributes:
        audio: float32 (channels, T), as the audio encoder reads it (`epo.model.hearing`): Whisper's log-mel at 100
            steps a second, or the waveform.
        video: float32 (F, 3, H, W), normalised frames.
        told: place in `EMOTIONS` of what is told of the clip instead of what the extractor finds; None for nothing.
    """

    audio: np.ndarray | None = None
    video: np.ndarray | None = None
    told: int | None = None


@dataclass(frozen=True)
class ClipReader:
    """Reads clips for an audio encoder and a vision tower.

    Attributes:
        feature_extractor: the audio encoder's.
        image_processor: the vision tower's.
        max_audio_seconds: longest audio read of a clip.
        video_fps: frames sampled a second.
        max_frames: most frames of a clip.
        face_detector: cuts frames to the face, see `epo.data.face_crop.open_detector`; empty for whole frames.
        damage: what is done to a clip between decoding and reading; None for nothing.
    """

    feature_extractor: Any
    image_processor: Any
    max_audio_seconds: float
    video_fps: float
    max_frames: int
    face_detector: str = ""
    damage: ClipDamage | None = None

    def read(self, clip: Clip | None, cache: ClipCache) -> ClipFeatures:
        """Decode a clip and compute what the encoders read, through the cache.

        Raises:
            MediaError: the clip cannot be decoded; the message names the file.
            DataError: the face detector cannot be used.
        """
        if clip is None:
            return ClipFeatures()
        arrays = cache.load(clip, self._settings, lambda: self._features(clip))
        return ClipFeatures(arrays.get("audio"), arrays.get("video"))

    def batch(self, clips: Sequence[ClipFeatures]) -> dict[str, Tensor]:
        """Stack the features of clips, zero-padded, with the real lengths beside them.

        Returns:
            `input_features` float32 (B, channels, T), `num_mel_frames` int64 (B,) with the real steps of T,
            `pixel_values` float32 (B, F, 3, H, W), `num_video_frames` int64 (B,); lengths are 0 where a half is absent.
            Where an emotion is told of any of them, `told_emotions` int64 (B,), -1 for the others.
        """
        num_steps = [0 if clip.audio is None else clip.audio.shape[1] for clip in clips]
        num_frames = [0 if clip.video is None else clip.video.shape[0] for clip in clips]
        channels, shortest = self.feature_extractor.feature_size, self._hearing.min_steps
        audio = np.zeros((len(clips), channels, max([shortest, *num_steps])), dtype=np.float32)
        video = np.zeros((len(clips), max([1, *num_frames]), 3, *frame_size_of(self.image_processor)), dtype=np.float32)
        for row, clip in enumerate(clips):
            if clip.audio is not None:
                audio[row, :, : num_steps[row]] = clip.audio
            if clip.video is not None:
                video[row, : num_frames[row]] = clip.video
        told = [-1 if clip.told is None else clip.told for clip in clips]
        return ({"told_emotions": torch.tensor(told)} if any(place >= 0 for place in told) else {}) | {
            "input_features": torch.from_numpy(audio),
            "num_mel_frames": torch.tensor(num_steps),
            "pixel_values": torch.from_numpy(video),
            "num_video_frames": torch.tensor(num_frames),
        }

    def save(self, folder: Path) -> None:
        """Write the processors and limits into a folder, for `load`."""
        self.feature_extractor.save_pretrained(folder / "feature_extractor")
        self.image_processor.save_pretrained(folder / "image_processor")
        names = ("max_audio_seconds", "video_fps", "max_frames", "face_detector")
        limits = {name: getattr(self, name) for name in names}
        (folder / "clip_reader.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ClipReader":
        """Read what `save` wrote."""
        config = json.loads((folder / "image_processor" / "preprocessor_config.json").read_text(encoding="utf-8"))
        image_processor = processor_class(config["image_processor_type"])
        return cls(
            AutoFeatureExtractor.from_pretrained(folder / "feature_extractor"),
            image_processor.from_pretrained(folder / "image_processor"),
            **json.loads((folder / "clip_reader.json").read_text(encoding="utf-8")),
        )

    def _features(self, clip: Clip) -> dict[str, np.ndarray]:
        media = decode_clip(clip, self._limits())
        media = media if self.damage is None else self.damage(media)
        arrays: dict[str, np.ndarray] = {}
        if media.waveform is not None:
            arrays["audio"] = self._hearing.features(self.feature_extractor, media.waveform)
        if media.frames is not None:
            frames = crop_to_face(media.frames, self.face_detector) if self.face_detector else media.frames
            output = self.image_processor(list(frames), return_tensors="np")
            arrays["video"] = np.ascontiguousarray(output["pixel_values"], dtype=np.float32)
        return arrays

    @cached_property
    def _hearing(self) -> Hearing:
        return hearing_by(self.feature_extractor)

    def _limits(self) -> MediaLimits:
        return MediaLimits(
            sample_rate_hz=self.feature_extractor.sampling_rate,
            max_audio_seconds=self.max_audio_seconds,
            video_fps=self.video_fps,
            max_frames=self.max_frames,
        )

    @cached_property
    def _settings(self) -> str:
        """Names all that features depend on; written out once, because processors copy themselves to do so."""
        processors = (self.feature_extractor.to_json_string(), self.image_processor.to_json_string())
        # The processors name their kind themselves.
        damage = () if self.damage is None else (str(self.damage),)
        return "|".join([f"reader {READER_VERSION}", str(self._limits()), self.face_detector, *processors, *damage])

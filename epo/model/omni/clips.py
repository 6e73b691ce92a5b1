"""Clips for Qwen2.5-Omni's towers: log-mel of the sound, patches of pairs of frames, and their batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo.data.cache import ClipCache
from epo.data.clip_damage import ClipDamage
from epo.data.dialogue import Clip
from epo.data.media import READER_VERSION, MediaLimits, decode_clip
from epo.model.clip_reader import ClipFeatures


@dataclass(frozen=True)
class OmniClipReader:
    """Reads clips by the decoder and within the limits of every other stage.

    Of its `ClipFeatures`, `audio` is float32 (mels, T), 100 frames a second, and `video` float32 (G, h, w, P): for each
    of G pairs of frames a grid of patches, in the order of the tower, P numbers each. A last odd frame is paired with
    itself.

    Attributes:
        feature_extractor: `WhisperFeatureExtractor`.
        image_processor: `Qwen2VLImageProcessorPil`.
        max_audio_seconds: longest span read of a clip.
        video_fps: frames sampled a second.
        max_frames: most frames of a clip.
        max_frame_pixels: a frame's area after resizing, at most; it decides how many tokens a pair of frames takes.
        damage: what is done to a clip between decoding and reading; None for nothing.
    """

    feature_extractor: Any
    image_processor: Any
    max_audio_seconds: float
    video_fps: float
    max_frames: int
    max_frame_pixels: int
    damage: ClipDamage | None = None

    def read(self, clip: Clip | None, cache: ClipCache) -> ClipFeatures:
        """Decode a clip and compute what the towers read, through the cache.

        Raises:
            MediaError: the clip cannot be decoded; the message names the file.
        """
        if clip is None:
            return ClipFeatures()
        arrays = cache.load(clip, self._settings, lambda: self._features(clip))
        return ClipFeatures(arrays.get("audio"), arrays.get("video"))

    def num_audio_tokens(self, audio: np.ndarray) -> int:
        """Return how many tokens a clip's sound takes, 25 a second."""
        return int(((audio.shape[1] - 1) // 2 + 1 - 2) // 2 + 1)

    def num_video_tokens(self, video: np.ndarray) -> int:
        """Return how many tokens a clip's picture takes: one for each square of `merge_size` x `merge_size` patches."""
        return int(np.prod(video.shape[:3])) // int(self.image_processor.merge_size) ** 2

    def batch(self, clips: Sequence[ClipFeatures]) -> dict[str, Tensor]:
        """Stack the halves there are, under the names of the thinker's own forward.

        Returns:
            Where there is sound, `input_features` float32 (A, mels, T) and `feature_attention_mask` int64 (A, T);
            where there are pictures, `pixel_values_videos` float32 (N, P), `video_grid_thw` int64 (V, 3) and
            `video_second_per_grid` float32 (V,).
        """
        heard = [clip.audio for clip in clips if clip.audio is not None]
        seen = [clip for clip in clips if clip.video is not None]
        found: dict[str, Tensor] = {}
        if heard:
            longest = max(audio.shape[1] for audio in heard)
            features = np.zeros((len(heard), heard[0].shape[0], longest), dtype=np.float32)
            mask = np.zeros((len(heard), longest), dtype=np.int64)
            for row, audio in enumerate(heard):
                features[row, :, : audio.shape[1]] = audio
                mask[row, : audio.shape[1]] = 1
            found |= {"input_features": torch.from_numpy(features), "feature_attention_mask": torch.from_numpy(mask)}
        if seen:
            videos = [clip.video for clip in seen if clip.video is not None]
            found["pixel_values_videos"] = torch.cat([torch.from_numpy(v.reshape(-1, v.shape[-1])) for v in videos])
            found["video_grid_thw"] = torch.tensor([v.shape[:3] for v in videos])
            found["video_second_per_grid"] = torch.tensor([self._seconds_per_grid(clip) for clip in seen])
        return found

    def _seconds_per_grid(self, clip: ClipFeatures) -> float:
        """Return the time between two pairs of frames, longer where `max_frames` were spread over a long clip.

        How long the clip is, the sound tells; without it the usual rate is said.
        """
        assert clip.video is not None
        pair: int = self.image_processor.temporal_patch_size
        spread = 0.0 if clip.audio is None else clip.audio.shape[1] / 100 / len(clip.video)
        return max(pair / self.video_fps, spread)

    def _features(self, clip: Clip) -> dict[str, np.ndarray]:
        media = decode_clip(clip, self._limits())
        media = media if self.damage is None else self.damage(media)
        arrays: dict[str, np.ndarray] = {}
        if media.waveform is not None:
            arrays["audio"] = self._log_mel(media.waveform)
        if media.frames is not None:
            arrays["video"] = self._patches(media.frames)
        return arrays

    def _log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return what the feature extractor gives for the sound padded to its full 300 s, without computing those."""
        extractor = self.feature_extractor
        num_frames = -(-len(waveform) // extractor.hop_length)
        padded = np.pad(waveform, (0, extractor.n_fft))
        output = extractor(
            padded, sampling_rate=extractor.sampling_rate, padding="do_not_pad", truncation=False, return_tensors="np"
        )
        return np.ascontiguousarray(output["input_features"][0][:, :num_frames], dtype=np.float32)

    def _patches(self, frames: np.ndarray) -> np.ndarray:
        """Return (G, h, w, P) of frames uint8 (F, H, W, 3); the image processor makes the patches of each frame."""
        processor = self.image_processor
        pair, side = processor.temporal_patch_size, processor.patch_size
        frames = np.concatenate([frames, np.repeat(frames[-1:], -len(frames) % pair, axis=0)])
        size = {
            "shortest_edge": min(processor.size["shortest_edge"], self.max_frame_pixels),
            "longest_edge": self.max_frame_pixels,
        }
        output = processor(list(frames), size=size, temporal_patch_size=1, return_tensors="np")
        _, height, width = output["image_grid_thw"][0].tolist()
        # (G, pair, h w, C, side, side) -> (G, h w, C, pair, side, side): the tower reads a pair's channels together.
        patches = output["pixel_values"].reshape(len(frames) // pair, pair, height * width, 3, side, side)
        patches = patches.transpose(0, 2, 3, 1, 4, 5)
        return np.ascontiguousarray(patches.reshape(len(patches), height, width, -1), dtype=np.float32)

    def _limits(self) -> MediaLimits:
        return MediaLimits(
            sample_rate_hz=self.feature_extractor.sampling_rate,
            max_audio_seconds=self.max_audio_seconds,
            video_fps=self.video_fps,
            max_frames=self.max_frames,
        )

    @cached_property
    def _settings(self) -> str:
        """Names all that features depend on."""
        processors = (self.feature_extractor.to_json_string(), self.image_processor.to_json_string())
        limits = (str(self._limits()), str(self.max_frame_pixels))
        damage = () if self.damage is None else (str(self.damage),)
        return "|".join([f"omni reader {READER_VERSION}", *limits, *processors, *damage])

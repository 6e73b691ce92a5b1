"""How a clip is heard: what each kind of audio encoder reads, and its states, untouched by padding and neighbours."""

from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedConfig, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from epo.model.augmentation import augment_audio, augment_level
from epo.model.masks import at_least_one, length_mask
from epo.part_names import PartError

Lengths = TypeVar("Lengths", int, Tensor)


class Hearing(Protocol):
    """A kind of audio encoder. A clip is `channels` numbers at each of T steps; states come 50 a second.

    Attributes:
        name: of the kind.
        families: `model_type`s of its encoders' configurations.
        processor: class of the feature extractor.
        min_steps: fewest steps that a batch may have.
    """

    name: str
    families: tuple[str, ...]
    processor: type[Any]
    min_steps: int

    def build(self, config: Any) -> nn.Module:
        """Return an encoder with fresh weights."""

    def hold_still(self, encoder: Any) -> None:
        """Let nothing train in an encoder of `build` that its architecture fixes or that is not used here."""

    def inside(self, model: Any) -> nn.Module:
        """Return the encoder inside a model as `AutoModel` loads it."""

    def make_processor(self, config: Any) -> Any:
        """Return the feature extractor of an encoder that is started from nothing."""

    def width(self, config: Any) -> int:
        """Return the width of the states."""

    def longest_s(self, config: Any) -> float:
        """Return how many seconds the encoder can read."""

    def features(self, processor: Any, waveform: np.ndarray) -> np.ndarray:
        """Return float32 (channels, T) of a mono waveform at the processor's sampling rate."""

    def num_states(self, num_steps: Lengths) -> Lengths:
        """Return the states of clips with this many steps; 0 for no audio."""

    def augment(self, features: Tensor, strength: float) -> Tensor:
        """Vary features (B, channels, T) while training without changing the emotion."""

    def encode(self, encoder: Any, features: Tensor, num_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return states (B, S, D), zero where there are none, and a bool mask (B, S).

        Args:
            encoder: of `build`.
            features: float (B, channels, T), right-padded.
            num_steps: int64 (B,), the real ones; 0 where there is no audio.
        """


class LogMel(Hearing):
    """Whisper: log-mel features, 100 steps a second."""

    name = "log-mel"
    families = ("whisper",)
    processor = WhisperFeatureExtractor
    min_steps = 2

    def build(self, config: Any) -> nn.Module:
        """See `Hearing`."""
        encoder: nn.Module = WhisperEncoder(config)
        return encoder

    def hold_still(self, encoder: Any) -> None:
        """See `Hearing`: Whisper's positions are fixed sinusoids."""
        encoder.embed_positions.requires_grad_(False)

    def inside(self, model: Any) -> nn.Module:
        """See `Hearing`."""
        encoder: nn.Module = model.get_encoder()
        return encoder

    def make_processor(self, config: Any) -> Any:
        """See `Hearing`."""
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins)

    def width(self, config: Any) -> int:
        """See `Hearing`."""
        return int(config.d_model)

    def longest_s(self, config: Any) -> float:
        """See `Hearing`."""
        return float(config.max_source_positions / 50)

    def features(self, processor: Any, waveform: np.ndarray) -> np.ndarray:
        """See `Hearing`."""
        rate = processor.sampling_rate
        output = processor(waveform, sampling_rate=rate, padding="do_not_pad", return_tensors="np")
        return np.ascontiguousarray(output["input_features"][0], dtype=np.float32)

    def num_states(self, num_steps: Lengths) -> Lengths:
        """See `Hearing`; the second convolution has stride 2."""
        return (num_steps + 1) // 2

    def augment(self, features: Tensor, strength: float) -> Tensor:
        """See `Hearing`."""
        return augment_audio(features, strength)

    def encode(self, encoder: Any, features: Tensor, num_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Run a Whisper encoder on the length the clips really have.

        Whisper's own forward insists on 30 s and never masks. Here the position table is cut to the batch, and padding
        is zeroed before each convolution and masked in attention, so a clip's states do not depend on its neighbours.
        """
        real = length_mask(num_steps, features.size(-1)).unsqueeze(1)
        hidden = functional.gelu(encoder.conv1(features * real)) * real
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        mask = length_mask(self.num_states(num_steps), hidden.size(1))
        hidden = hidden + encoder.embed_positions(torch.arange(hidden.size(1), device=hidden.device))
        hidden = functional.dropout(hidden, p=encoder.dropout, training=encoder.training)
        bias = torch.zeros(mask.shape, dtype=hidden.dtype, device=hidden.device)
        bias = bias.masked_fill(~at_least_one(mask), torch.finfo(hidden.dtype).min)[:, None, None, :]
        bias = bias.expand(-1, -1, hidden.size(1), -1)
        for layer in encoder.layers:
            hidden = layer(hidden, bias)
        return encoder.layer_norm(hidden) * mask.unsqueeze(-1), mask


class Waveform(Hearing):
    """wav2vec 2.0, HuBERT and WavLM: the waveform itself, 16,000 steps a second, through seven convolutions.

    Convolutions of another size are refused: all published encoders have these, and the processor counts by them.
    """

    name = "waveform"
    families = ("wav2vec2", "hubert", "wavlm")
    processor = Wav2Vec2FeatureExtractor
    min_steps = 400  # what the convolutions read for one state: 25 ms

    _KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)

    def build(self, config: Any) -> nn.Module:
        """See `Hearing`.

        Raises:
            PartError: its convolutions are of another size, or it has layers that would mix clips or change lengths.
        """
        if (tuple(config.conv_kernel), tuple(config.conv_stride)) != (self._KERNELS, self._STRIDES):
            raise PartError(
                f"audio encoder of family {config.model_type!r}: its convolutions have kernels {config.conv_kernel} "
                f"and strides {config.conv_stride}, want {self._KERNELS} and {self._STRIDES}; name another checkpoint"
            )
        for key in ("add_adapter", "conv_pos_batch_norm"):
            if getattr(config, key, False):
                raise PartError(
                    f"audio encoder of family {config.model_type!r}: {key} is not supported; name another checkpoint"
                )
        model: Any = AutoModel.from_config(config)
        model.config.layerdrop = 0.0  # whole layers are never left out: a step would differ between ranks
        encoder: nn.Module = model
        return encoder

    def hold_still(self, encoder: Any) -> None:
        """See `Hearing`: what SpecAugment puts in is not used."""
        if hasattr(encoder, "masked_spec_embed"):
            encoder.masked_spec_embed.requires_grad_(False)

    def inside(self, model: Any) -> nn.Module:
        """See `Hearing`."""
        whole: nn.Module = model
        return whole

    def make_processor(self, config: Any) -> Any:
        """See `Hearing`."""
        return Wav2Vec2FeatureExtractor(do_normalize=True)

    def width(self, config: Any) -> int:
        """See `Hearing`."""
        return int(config.hidden_size)

    def longest_s(self, config: Any) -> float:
        """See `Hearing`: positions are a convolution, so there is no end."""
        return float("inf")

    def features(self, processor: Any, waveform: np.ndarray) -> np.ndarray:
        """See `Hearing`; a clip shorter than one state is filled up with silence."""
        output = processor(waveform, sampling_rate=processor.sampling_rate, return_tensors="np")
        values = np.asarray(output["input_values"][0], dtype=np.float32)
        return np.pad(values, (0, max(0, self.min_steps - len(values))))[None]

    def num_states(self, num_steps: Lengths) -> Lengths:
        """See `Hearing`."""
        for kernel, stride in zip(self._KERNELS, self._STRIDES, strict=True):
            num_steps = self._after(num_steps, kernel, stride)
        return num_steps

    def augment(self, features: Tensor, strength: float) -> Tensor:
        """See `Hearing`."""
        return augment_level(features, strength)

    def encode(self, encoder: Any, features: Tensor, num_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder's own modules on the length the clips really have.

        The stock model of the `group` kind normalises its first convolution over a clip and its padding, and masks
        nothing. Here that layer is run row by row on what is real, and attention is masked always.
        """
        hidden, lengths = features, num_steps
        for layer, kernel, stride in zip(
            encoder.feature_extractor.conv_layers, self._KERNELS, self._STRIDES, strict=True
        ):
            lengths = self._after(lengths, kernel, stride)
            hidden = self._group_normed(layer, hidden, lengths) if self._mixes_time(layer) else layer(hidden)
        mask = length_mask(lengths, hidden.size(-1))
        projected = encoder.feature_projection(hidden.transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        states = encoder.encoder(hidden, attention_mask=at_least_one(mask)).last_hidden_state
        return states * mask.unsqueeze(-1), mask

    @staticmethod
    def _after(num_steps: Lengths, kernel: int, stride: int) -> Lengths:
        """Return the length after a convolution without padding, 0 for fewer steps than it reads."""
        left = (num_steps - kernel) // stride + 1
        return left.clamp(min=0) if isinstance(left, Tensor) else max(left, 0)

    @staticmethod
    def _mixes_time(layer: Any) -> bool:
        return isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm)

    @staticmethod
    def _group_normed(layer: Any, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Run a convolution layer whose norm is over time, that norm on each row's real part."""
        hidden = layer.conv(hidden)
        size = hidden.size(-1)
        rows = [  # a row without a clip takes two steps, which a norm over time needs
            functional.pad(layer.layer_norm(row[None, :, :length]), (0, size - length))
            for row, length in zip(hidden, lengths.clamp(min=2).tolist(), strict=True)
        ]
        normed: Tensor = layer.activation(torch.cat(rows))
        return normed


KINDS: tuple[Hearing, ...] = (LogMel(), Waveform())


def hearing_of(config: PreTrainedConfig) -> Hearing:
    """Return how an encoder of this configuration hears.

    Raises:
        PartError: its family is none of ours.
    """
    for kind in KINDS:
        if config.model_type in kind.families:
            return kind
    known = ", ".join(family for kind in KINDS for family in kind.families)
    raise PartError(f"an audio encoder of family {config.model_type!r} is not supported; want one of {known}")


def hearing_by(processor: Any) -> Hearing:
    """Return how encoders with this feature extractor hear.

    Raises:
        PartError: it belongs to none of ours.
    """
    for kind in KINDS:
        if isinstance(processor, kind.processor):
            return kind
    known = ", ".join(kind.processor.__name__ for kind in KINDS)
    raise PartError(f"a {type(processor).__name__} belongs to no audio encoder that is supported; want one of {known}")


__all__ = ["KINDS", "Hearing", "LogMel", "Waveform", "hearing_by", "hearing_of"]

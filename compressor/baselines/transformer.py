"""Transformer: an encoder of as many weights as the Mamba backbone, which reads the history in both directions."""

import math
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import AutoModel

from compressor.configuration import MambaCompressorConfig
from compressor.modeling import MambaCompressor
from compressor.words_table import WordsTable

_HEAD_WIDTH = 32


class TransformerConfig(MambaCompressorConfig):
    """Configuration of `TransformerCompressor`; the backbone's says vocabulary, width, layers and number of weights."""

    model_type = "transformer_compressor"


class TransformerBackbone(WordsTable):
    """Pre-norm encoder layers with sinusoidal positions, which hold for histories of any length (arXiv 1706.03762)."""

    def __init__(self, num_words: int, width: int, num_layers: int, inner: int) -> None:
        super().__init__(num_words, width)
        heads = max(1, width // _HEAD_WIDTH)
        layer = nn.TransformerEncoderLayer(
            width, heads, inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, embeds: Tensor, is_padding: Tensor) -> Tensor:
        """Return states (B, T, width) of embeddings (B, T, width), none of which attends to padding, bool (B, T)."""
        states: Tensor = self.layers(embeds + _positions(embeds), src_key_padding_mask=is_padding)
        return states


class TransformerCompressor(MambaCompressor):
    """A MambaCompressor with a Transformer encoder in Mamba's place; memories stand at the same slots. Our choice."""

    config_class = TransformerConfig

    @staticmethod
    def make_backbone(config: Any) -> nn.Module:
        """Return an encoder whose layers have as many weights as those of the Mamba that the configuration is of."""
        sizes = config.backbone_config
        width = sizes.hidden_size
        return TransformerBackbone(sizes.vocab_size, width, sizes.num_hidden_layers, inner_width(sizes))

    def read(self, input_ids: Tensor) -> Tensor:
        """Return the states of all positions, (B, T, width); those of padding mean nothing."""
        is_slot = input_ids >= self.vocab_size
        is_padding = is_slot.flip(1).cumsum(dim=1).flip(1) == 0  # nothing but padding follows the last slot
        is_padding[:, 0] = False  # an empty history is read, too, and then left out
        states: Tensor = self.backbone(self.embed(input_ids), is_padding)
        return states


def inner_width(sizes: Any) -> int:
    """Return the width inside the encoder's layers at which they have as many weights as a Mamba's.

    Args:
        sizes: configuration of the Mamba.
    """
    with init_empty_weights():
        mamba = AutoModel.from_config(sizes)
    weights = sum(weight.numel() for weight in mamba.layers.parameters()) / sizes.num_hidden_layers
    width = sizes.hidden_size
    attention_and_norms = 4 * width * width + 9 * width  # with biases, and one bias of the layers between
    inner: int = max(width // 2, round((weights - attention_and_norms) / (2 * width + 1)))
    return inner


def _positions(embeds: Tensor) -> Tensor:
    """Return sines and cosines of the positions, (T, width), of the size that embeddings of transformers start with."""
    length, width = embeds.shape[1:]
    places = torch.arange(length, device=embeds.device, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2, device=embeds.device) * (-math.log(10_000.0) / width))
    waves = torch.stack([(places * rates).sin(), (places * rates).cos()], dim=-1).flatten(1)
    return (0.1 * waves[:, :width]).to(embeds.dtype)


__all__ = ["TransformerBackbone", "TransformerCompressor", "TransformerConfig", "inner_width"]

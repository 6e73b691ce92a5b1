"""Truncation: the newest words of the history as they are, as many of them as memories would take up."""

from typing import Any

import torch
from torch import Tensor, nn

from compressor.configuration import MambaCompressorConfig
from compressor.modeling import MambaCompressor, Memory
from compressor.words_table import WordsTable


class TruncationConfig(MambaCompressorConfig):
    """Configuration of `Truncation`; its backbone is the language model's table of words.

    Attributes:
        num_words: tokens that table has.
    """

    model_type = "truncation_compressor"

    num_words: int = 800


class Truncation(MambaCompressor):
    """In place of n memories, the language model's embeddings of the last n tokens of the history's lines.

    It reads the language model's own tokens and learns nothing. A history shorter than its memories would be is
    preceded by vectors of zeros, so that every kind takes up the same room. Our choice.
    """

    config_class = TruncationConfig

    @staticmethod
    def make_backbone(config: Any) -> nn.Module:
        """Return the table; its numbers come from the language model."""
        return WordsTable(config.num_words, config.output_size)

    @property
    def width(self) -> int:
        """Of its states, which are words."""
        size: int = self.config.output_size
        return size

    def hold_still(self) -> None:
        """Let nothing train."""
        self.requires_grad_(False)

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Memory:
        """Return the last tokens' embeddings where `MambaCompressor.forward` returns memories."""
        is_slot = input_ids >= self.vocab_size
        counts = is_slot.sum(dim=1)
        vectors = torch.zeros(len(input_ids), max(int(counts.max()), 1), self.width, device=input_ids.device)
        vectors = vectors.to(self.dtype)
        for row, (ids, slots, count) in enumerate(zip(input_ids, is_slot, counts.tolist(), strict=True)):
            if count > 0:
                length = int(slots.nonzero()[-1]) + 1  # what follows is padding
                words = ids[:length][~slots[:length]][-count:]
                vectors[row, count - len(words) : count] = self.backbone.get_input_embeddings()(words)
        mask = torch.arange(vectors.size(1), device=input_ids.device) < counts.unsqueeze(1)
        return Memory(vectors=vectors, mask=mask)


__all__ = ["Truncation", "TruncationConfig"]

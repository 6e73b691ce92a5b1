"""Mean pooling: each memory of a turn is the mean of a k-th part of the turn's words, through one linear layer."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressor.configuration import MambaCompressorConfig
from compressor.modeling import MambaCompressor
from compressor.words_table import WordsTable


class MeanPoolConfig(MambaCompressorConfig):
    """Configuration of `MeanPool`; of the backbone's configuration it takes vocabulary and width."""

    model_type = "mean_pool_compressor"


class MeanPool(MambaCompressor):
    """Learns word embeddings, an embedding for each memory slot, and the way into the language model's space.

    A turn is read by itself, in order only as far as its k parts go. Our choice.
    """

    config_class = MeanPoolConfig

    @staticmethod
    def make_backbone(config: Any) -> nn.Module:
        """Return a table of words."""
        return WordsTable(config.backbone_config.vocab_size, config.backbone_config.hidden_size)

    def read(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings of all positions, (B, T, width), with a part's mean added at each memory slot."""
        embeds_BTW, k = self.embed(input_ids), self.config.num_memory_tokens
        is_slot_BT = input_ids >= self.vocab_size
        begins_slots_BT = input_ids == self.vocab_size
        turn_BT = begins_slots_BT.cumsum(dim=1) - is_slot_BT.long()  # what follows the last slots is padding
        num_turns = int(begins_slots_BT.sum(dim=1).max())
        words_BTN = functional.one_hot(turn_BT, num_turns + 1) * (~is_slot_BT).unsqueeze(-1)
        length_BN = words_BTN.sum(dim=1)
        before_BN = length_BN.cumsum(dim=1) - length_BN
        place_BT = (~is_slot_BT).long().cumsum(dim=1) - 1 - before_BN.gather(1, turn_BT)
        part_BT = place_BT * k // length_BN.gather(1, turn_BT).clamp(min=1)
        slot_BT = torch.where(is_slot_BT, input_ids - self.vocab_size, part_BT)
        bin_BT = turn_BT * k + slot_BT.clamp(0, k - 1)

        is_word_BT1 = (~is_slot_BT).unsqueeze(-1).to(embeds_BTW.dtype)
        index_BTW = bin_BT.unsqueeze(-1).expand_as(embeds_BTW)
        zeros_BPW = embeds_BTW.new_zeros(len(input_ids), (num_turns + 1) * k, embeds_BTW.size(-1))
        sums_BPW = zeros_BPW.scatter_add(1, index_BTW, embeds_BTW * is_word_BT1)
        counts_BPW = zeros_BPW.scatter_add(1, index_BTW, is_word_BT1.expand_as(embeds_BTW))
        means_BTW = (sums_BPW / counts_BPW.clamp(min=1)).gather(1, index_BTW)
        return embeds_BTW + means_BTW * (1 - is_word_BT1)


__all__ = ["MeanPool", "MeanPoolConfig"]

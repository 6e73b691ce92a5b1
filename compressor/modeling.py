"""MambaCompressor: a dialogue's text in, k memory tokens a turn in the language model's embedding space out."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from compressor.configuration import MambaCompressorConfig
from compressor.seams import use_own_scan
from compressor.segments import carries_state, read_segments, require_segments

_READ_WHOLE = 1024
"""Longest history, in positions, that is read in one pass whatever is asked."""
_SEGMENT = 384
"""Positions of a longer one that are read at once."""


@dataclass
class Memory(ModelOutput):
    """What the language model reads instead of the history.

    Attributes:
        vectors: (B, M, D), M the largest number of memory tokens in the batch, in the language model's width.
        mask: bool (B, M), True where a memory token is real; real ones come first.
    """

    vectors: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults
    mask: Tensor = None  # type: ignore[assignment]  # ModelOutput wants defaults


class MambaCompressor(PreTrainedModel):
    """Mamba over the turns' tokens; the hidden states at the memory tokens, projected, are the memory.

    Memory slot j of a turn is written in `input_ids` as `vocab_size + j`: slots have embeddings of their own, so a
    pretrained vocabulary stays as it is. Source: arXiv 2412.17572; k > 1 and the LayerNorm are our choice.
    """

    config_class = MambaCompressorConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True

    backprop_tokens: int | None = None
    """Positions through which gradients go back at once; None for all. `cut_gradients` sets it, no folder keeps it."""

    def __init__(self, config: MambaCompressorConfig) -> None:
        super().__init__(config)
        use_own_scan()
        self.backbone: Any = self.make_backbone(config)
        self.memory_slots = nn.Embedding(config.num_memory_tokens, self.width)
        self.memory_norm = nn.LayerNorm(self.width)
        self.memory_head = nn.Linear(self.width, config.output_size)
        self.post_init()

    @staticmethod
    def make_backbone(config: Any) -> nn.Module:
        """Return what reads the history; it has `get_input_embeddings()`. Other kinds of compressors have another."""
        backbone: nn.Module = AutoModel.from_config(config.backbone_config)
        return backbone

    @property
    def width(self) -> int:
        """Of the backbone's states."""
        size: int = self.config.backbone_config.hidden_size
        return size

    def _init_weights(self, module: nn.Module) -> None:
        """Start memories at the scale of the language model's embeddings; leave the backbone to its own rule."""
        if module is self.memory_head:
            nn.init.normal_(module.weight, std=self.config.output_std / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)
        elif module is self.memory_slots:
            nn.init.normal_(module.weight, std=0.1)
        elif module is self.memory_norm:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    @property
    def vocab_size(self) -> int:
        """Number of ordinary tokens; ids from here on are memory slots."""
        size: int = self.backbone.get_input_embeddings().num_embeddings
        return size

    def cut_gradients(self, num_tokens: int | None) -> None:
        """Truncate back-propagation through long histories; the memories stay what they are.

        Args:
            num_tokens: positions of a segment (`compressor.segments.read_segments`); None cuts nothing.

        Raises:
            CompressorDataError: this compressor carries no state from segment to segment, or they hold less than two.
        """
        if num_tokens is not None:
            require_segments(self.config, num_tokens)
        self.backprop_tokens = num_tokens

    def hold_still(self) -> None:
        """Let nothing train that a kind takes over from the language model; Mamba takes nothing."""

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the embeddings of tokens and memory slots, (B, T) int64 to (B, T, width)."""
        is_slot = input_ids >= self.vocab_size
        slots = self.memory_slots((input_ids - self.vocab_size).clamp(min=0))
        tokens = self.backbone.get_input_embeddings()(input_ids.masked_fill(is_slot, 0))
        return torch.where(is_slot.unsqueeze(-1), slots, tokens)

    def project(self, hidden: Tensor) -> Tensor:
        """Map backbone states (..., width) into the language model's embedding space (..., D)."""
        # In bfloat16 Mamba still adds its layers up in float32.
        memories: Tensor = self.memory_head(self.memory_norm(hidden.to(self.memory_norm.weight.dtype)))
        return memories

    def read(self, input_ids: Tensor) -> Tensor:
        """Return the backbone's states of all positions, (B, T) int64 to (B, T, width).

        Mamba-2 reads a long history segment by segment where nothing is learnt, or where `backprop_tokens` says so, and
        carries its state over (`compressor.segments`).
        """
        length = input_ids.size(1)
        size = self.backprop_tokens
        if not torch.is_grad_enabled():
            size = _SEGMENT if length > _READ_WHOLE and carries_state(self.config) else None
        if size is None or length <= size:
            hidden: Tensor = self.backbone(inputs_embeds=self.embed(input_ids), use_cache=False).last_hidden_state
            return hidden
        return read_segments(self, input_ids, size)

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Memory:
        """Compress a batch of histories.

        Args:
            input_ids: int64 (B, T), turns with their memory slots, padded on the RIGHT with any ordinary id. Right
                padding cannot change earlier states; left padding would.
            kwargs: ignored, so that a trainer may pass a whole batch.

        Returns:
            `Memory` with vectors (B, M, D) and mask (B, M).
        """
        hidden = self.read(input_ids)
        is_slot = input_ids >= self.vocab_size
        counts = is_slot.sum(dim=1)
        num_slots = max(int(counts.max()), 1)  # one dummy slot keeps an empty batch in the graph
        # A stable sort of "is not a slot" brings the slots' positions to the front, in order.
        positions = (~is_slot).to(torch.int8).argsort(dim=1, stable=True)[:, :num_slots]
        picked = hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))
        mask = torch.arange(positions.size(1), device=input_ids.device) < counts.unsqueeze(1)
        return Memory(vectors=self.project(picked), mask=mask)


AutoConfig.register("mamba_compressor", MambaCompressorConfig)
AutoModel.register(MambaCompressorConfig, MambaCompressor)

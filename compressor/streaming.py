"""Streaming: one turn in, its memory out, with a state of constant size."""

from typing import Any

import torch
from torch import Tensor

from compressor.modeling import MambaCompressor
from compressor.seams import cache_name


class MemoryStream:
    """Compresses one dialogue turn by turn, as a live conversation needs it.

    The Mamba state takes the place of the turns read so far, so a turn costs the same however long the talk is.
    The memories equal those of the whole history at once, up to rounding.
    """

    def __init__(self, compressor: MambaCompressor) -> None:
        self._compressor = compressor
        self._state: Any = None

    @torch.no_grad()
    def append(self, turn_ids: list[int]) -> Tensor:
        """Read one turn and return its memory.

        Args:
            turn_ids: the turn's token ids followed by its memory slots, as `compressor.data.encode_turn` makes them.

        Returns:
            (k, D), in the compressor's dtype.
        """
        model = self._compressor
        ids = torch.tensor([turn_ids], device=model.device)
        cache = cache_name(model.backbone)
        output = model.backbone(inputs_embeds=model.embed(ids), use_cache=True, **{cache: self._state})
        self._state = output[cache]
        return model.project(output.last_hidden_state[ids >= model.vocab_size])

"""Histories that a model has read: rows that differ in their clip, their LoRA or their suite read them again."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from compressor.modeling import Memory

_Kept = dict[tuple[Any, ...], Memory]


class KeptMemories:
    """Memories by compressor and batch, so that a row gets them bit by bit as the row before it did.

    They are kept for whole batches, because a history rounds otherwise beside others; in main memory, and no more than
    a limit, beyond which batches are read as they come.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        """Keep nothing yet.

        Args:
            max_bytes: of all memories together.
        """
        self._tables: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()
        self._bytes_left = max_bytes

    @contextmanager
    def of(self, model: Any) -> Iterator[None]:
        """Let a model's compressor read each batch of histories once as long as this is open; its weights must stand.

        Args:
            model: without PEFT around it; one without a compressor is left alone.
        """
        compressor = getattr(model, "compressor", None)
        if compressor is None:
            yield
            return
        table = self._tables.setdefault(compressor, {})
        compressor.forward = partial(self._read, compressor.forward, table)
        try:
            yield
        finally:
            del compressor.forward  # the class's own is there again

    def _read(self, read: Any, table: _Kept, input_ids: Tensor, **kwargs: Any) -> Memory:
        """Return the memories of a batch, int64 (B, T): kept ones, or read now by `read`."""
        if torch.is_grad_enabled():
            memory: Memory = read(input_ids=input_ids, **kwargs)
            return memory
        device = input_ids.device
        is_mixed = torch.is_autocast_enabled(device.type)
        key = (tuple(input_ids.shape), input_ids.cpu().numpy().tobytes(), is_mixed)
        if key not in table:
            memory = read(input_ids=input_ids, **kwargs)
            size = memory.vectors.numel() * memory.vectors.element_size()
            if size > self._bytes_left:
                return memory
            self._bytes_left -= size
            table[key] = Memory(vectors=memory.vectors.cpu(), mask=memory.mask.cpu())
        return Memory(vectors=table[key].vectors.to(device), mask=table[key].mask.to(device))


__all__ = ["KeptMemories"]

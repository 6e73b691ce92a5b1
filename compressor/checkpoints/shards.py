"""Where each weight's numbers lie when ZeRO spreads them over ranks, and how one spread is filled from another.

ZeRO keeps what belongs to several weights (masters, moments) in flat buffers. Stages 1 and 2 lay the weights of a
group one after another, pad the end and cut the whole into a part a rank; stage 3 pads and cuts every weight by itself
and lays a rank's parts one after another (the layouts of DeepSpeed, stated in its `zero_to_fp32.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """Consecutive numbers of one weight in a buffer.

    Attributes:
        name: of the weight.
        start: of the first of them in the flattened weight.
        length: how many.
        offset: of the first of them in the buffer.
    """

    name: str
    start: int
    length: int
    offset: int


@dataclass(frozen=True)
class Buffer:
    """What one rank holds of several weights.

    Attributes:
        pieces: in the order in which they lie.
        length: in numbers, with padding.
    """

    pieces: tuple[Piece, ...]
    length: int

    @property
    def used(self) -> int:
        """Numbers before the padding at the end."""
        return max((piece.offset + piece.length for piece in self.pieces), default=0)


def whole_buffer(name: str, length: int) -> Buffer:
    """Return a weight of `length` numbers that a rank holds whole."""
    return Buffer((Piece(name, 0, length, 0),), length)


def spread(stage: int, sizes: Mapping[str, int], rank: int, num_ranks: int) -> Buffer:
    """Return what a rank holds of weights that share a flat buffer.

    Args:
        stage: of ZeRO, 1 to 3.
        sizes: numbers of each weight, in the order of the buffer.
        rank: from 0.
        num_ranks: over which they are spread.
    """
    return _each_cut(sizes, rank, num_ranks) if stage == 3 else _cut(sizes, rank, num_ranks)


def _cut(sizes: Mapping[str, int], rank: int, num_ranks: int) -> Buffer:
    """Lay weights one after another, pad to a multiple of twice the ranks, and take one of equal parts."""
    length = -(-sum(sizes.values()) // (2 * num_ranks)) * 2
    first, pieces, begin = rank * length, [], 0
    for name, size in sizes.items():
        start, stop = max(begin, first), min(begin + size, first + length)
        if start < stop:
            pieces.append(Piece(name, start - begin, stop - start, start - first))
        begin += size
    return Buffer(tuple(pieces), length)


def _each_cut(sizes: Mapping[str, int], rank: int, num_ranks: int) -> Buffer:
    """Pad each weight to a multiple of the ranks, take one of its equal parts, and lay these one after another."""
    pieces, offset = [], 0
    for name, size in sizes.items():
        length = -(-size // num_ranks)
        held = min(length, size - rank * length)
        if held > 0:
            pieces.append(Piece(name, rank * length, held, offset))
        offset += length
    return Buffer(tuple(pieces), offset)


class Held:
    """Numbers of weights as buffers of any ranks hold them, to fill other buffers from."""

    def __init__(self, parts: Iterable[tuple[Buffer, Tensor]]) -> None:
        """Keep views of tensors; nothing is copied.

        Args:
            parts: buffers, and one-dimensional tensors that hold at least their pieces.
        """
        self._views: dict[str, list[tuple[int, Tensor]]] = {}
        for buffer, numbers in parts:
            for piece in buffer.pieces:
                view = numbers.narrow(0, piece.offset, piece.length)
                self._views.setdefault(piece.name, []).append((piece.start, view))

    def fill(self, wanted: Buffer) -> Tensor:
        """Return a buffer's numbers, (length,), of the dtype of what is held; padding is 0.

        Raises:
            KeyError: a number of it is held by no part; names the weight.
        """
        dtype = next(iter(self._views.values()))[0][1].dtype if self._views else torch.float32
        numbers = torch.zeros(wanted.length, dtype=dtype)
        for piece in wanted.pieces:
            missing = piece.length
            for held, view in self._views.get(piece.name, ()):
                start = max(held, piece.start)
                length = min(held + len(view), piece.start + piece.length) - start
                if length > 0:
                    target = numbers.narrow(0, piece.offset + start - piece.start, length)
                    target.copy_(view.narrow(0, start - held, length))
                    missing -= length
            if missing:
                raise KeyError(piece.name)
        return numbers

"""Rows that hold several pairs one after another: which pair lies where, so that hardly a pad is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Where B pairs of at most S tokens lie in R rows of L tokens.

    Attributes:
        row: int64 (B,), of each pair.
        offset: int64 (B,), the column of its first token.
        taken: int64 (R, L), which of the B x S tokens stands in each place; of padding any.
        is_real: bool (R, L), false on padding.
    """

    row: Tensor
    offset: Tensor
    taken: Tensor
    is_real: Tensor


def balanced_rows(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Return rows of pairs so that a rectangle around them is as small as it gets; of equals the fewest rows.

    For each number of rows the pairs are dealt out, the longest first (of equals the earlier), each to the row that is
    shortest by then (the first of such).

    Args:
        lengths: tokens of each pair.
        limit: tokens of a row; not below the longest pair, which is never cut.

    Source: longest first, Graham 1969 (at most 4/3 of the best longest row); the choice of their number is ours.
    """
    order = sorted(range(len(lengths)), key=lambda pair: -lengths[pair])
    best: tuple[int, list[list[int]]] | None = None
    for count in range(max(1, -(-sum(lengths) // limit)), len(lengths) + 1):
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for pair in order:
            number = min(range(count), key=filled.__getitem__)
            rows[number].append(pair)
            filled[number] += lengths[pair]
        if max(filled) <= limit and (best is None or count * max(filled) < best[0]):
            best = count * max(filled), rows
    assert best is not None  # as many rows as pairs hold them
    return best[1]


def place_pairs(lengths: Tensor, width: int, tokens_per_row: int) -> Placement:
    """Lay pairs in rows of at most so many tokens.

    Where a pair is longer, rows are as long as the longest one: in a rectangle that room is computed anyway.

    Args:
        lengths: int64 (B,), tokens of each pair.
        width: S, columns of a table with one pair a row.
        tokens_per_row: the budget.
    """
    sizes: list[int] = lengths.tolist()
    rows = balanced_rows(sizes, max(tokens_per_row, *sizes))
    longest = max(sum(sizes[pair] for pair in row) for row in rows)
    taken = torch.full((len(rows), longest), -1)
    places = torch.zeros(2, len(sizes), dtype=torch.long)
    for number, row in enumerate(rows):
        start = 0
        for pair in row:
            taken[number, start : start + sizes[pair]] = pair * width + torch.arange(sizes[pair])
            places[:, pair] = torch.tensor([number, start])
            start += sizes[pair]
    taken, places = taken.to(lengths.device), places.to(lengths.device)
    return Placement(places[0], places[1], taken.clamp(min=0), taken >= 0)


__all__ = ["Placement", "balanced_rows", "place_pairs"]

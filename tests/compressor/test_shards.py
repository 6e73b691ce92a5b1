"""Where numbers lie under ZeRO, worked by hand: weights a of 5 numbers, 1 to 5, and b of 4, 6 to 9."""

import pytest
import torch

from compressor.checkpoints.shards import Held, Piece, spread, whole_buffer

SIZES = {"a": 5, "b": 4}


def lying(stage, rank, num_ranks):
    """Each piece as weight, first number, length and place in the buffer; then the buffer's length and use."""
    buffer = spread(stage, SIZES, rank, num_ranks)
    return [(p.name, p.start, p.length, p.offset) for p in buffer.pieces], buffer.length, buffer.used


def test_stages_1_and_2_cut_all_weights_together():
    """Nine numbers are padded to a multiple of twice the ranks: 10 for one, 12 for two and three, 16 for four."""
    assert lying(2, 0, 1) == ([("a", 0, 5, 0), ("b", 0, 4, 5)], 10, 9)
    assert lying(2, 0, 2) == ([("a", 0, 5, 0), ("b", 0, 1, 5)], 6, 6)
    assert lying(1, 1, 2) == ([("b", 1, 3, 0)], 6, 3)
    assert lying(2, 1, 3) == ([("a", 4, 1, 0), ("b", 0, 3, 1)], 4, 4)
    assert lying(2, 2, 3) == ([("b", 3, 1, 0)], 4, 1)
    assert lying(2, 3, 4) == ([], 4, 0)


def test_stage_3_cuts_each_weight():
    """Of two ranks each holds 3 of a, padded to 6, and 2 of b; of three ranks 2 of a, padded to 6, and 2 of b's 6."""
    assert lying(3, 0, 2) == ([("a", 0, 3, 0), ("b", 0, 2, 3)], 5, 5)
    assert lying(3, 1, 2) == ([("a", 3, 2, 0), ("b", 2, 2, 3)], 5, 5)
    assert lying(3, 1, 3) == ([("a", 2, 2, 0), ("b", 2, 2, 2)], 4, 4)
    assert lying(3, 2, 3) == ([("a", 4, 1, 0)], 4, 1)


SPREAD = {
    (2, 1): [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]],
    (2, 2): [[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]],
    (2, 3): [[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 0, 0]],
    (2, 4): [[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 0, 0], [0, 0, 0, 0]],
    (3, 1): [[1, 2, 3, 4, 5, 6, 7, 8, 9]],
    (3, 2): [[1, 2, 3, 6, 7], [4, 5, 0, 8, 9]],
    (3, 3): [[1, 2, 6, 7], [3, 4, 8, 9], [5, 0, 0, 0]],
}
"""By stage and number of ranks, what each rank holds."""


@pytest.mark.parametrize("held", SPREAD, ids=str)
@pytest.mark.parametrize("wanted", SPREAD, ids=str)
def test_any_spread_is_filled_from_any_other(held, wanted):
    ours = [spread(held[0], SIZES, rank, held[1]) for rank in range(held[1])]
    # Padding must not be read: 99 stands there.
    parts = [torch.tensor(row, dtype=torch.float64) for row in SPREAD[held]]
    numbers = Held((buffer, part + 99 * (part == 0)) for buffer, part in zip(ours, parts, strict=True))
    found = [numbers.fill(spread(wanted[0], SIZES, rank, wanted[1])) for rank in range(wanted[1])]
    assert [row.tolist() for row in found] == SPREAD[wanted] and found[0].dtype == torch.float64


def test_what_no_part_holds_is_told():
    held = Held([(spread(2, SIZES, 0, 2), torch.arange(6.0))])
    assert held.fill(whole_buffer("a", 5)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError, match="b"):
        held.fill(whole_buffer("b", 4))
    assert whole_buffer("b", 4).pieces == (Piece("b", 0, 4, 0),)

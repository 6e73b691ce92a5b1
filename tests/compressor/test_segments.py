"""Segments: the same memories however a history is cut, gradients that end at a cut, memory that does not grow."""

import pytest
import torch

from compressor.baselines.mean_pool import MeanPool, MeanPoolConfig
from compressor.segments import read_segments
from compressor.text import CompressorDataError, pad_right
from epo.model.live_memory import LiveBytes

SLOTS = [320, 321]
# Each half of the history has words of its own: 14 positions, then 14.
EARLY, LATE = [[5, 6, 7, 8, 9, *SLOTS] * 2, [30, 31, 32, 33, 34, *SLOTS] * 2]


@pytest.fixture
def compressor(make_compressor):
    return make_compressor().train()


def gradients(compressor, ids, size, places=slice(None)):
    """Gradients of a fixed weighing of memories, by name of the weight; cut after so many positions, None for never."""
    compressor.zero_grad(set_to_none=True)
    compressor.backprop_tokens = size
    vectors = compressor(input_ids=torch.tensor([ids])).vectors[0]
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    (vectors * weights)[places].sum().backward()
    return {name: weight.grad.clone() for name, weight in compressor.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("size", [2, 5, 14, 27, 28])
def test_memories_are_those_of_one_pass_however_it_is_cut(compressor, size):
    ids = pad_right([EARLY + LATE, LATE[:9]], 0)
    whole = compressor(input_ids=ids)
    compressor.cut_gradients(size)
    cut = compressor(input_ids=ids)
    torch.testing.assert_close(cut.vectors[cut.mask], whole.vectors[whole.mask], atol=1e-5, rtol=1e-5)


def test_a_segment_that_holds_the_whole_history_has_exactly_the_whole_gradient(compressor):
    whole, cut = gradients(compressor, EARLY + LATE, None), gradients(compressor, EARLY + LATE, 28)
    assert whole.keys() == cut.keys() and all(cut[name].equal(whole[name]) for name in whole)


def test_no_gradient_goes_over_a_cut_and_none_is_lost_before_it(compressor):
    """Of the memories after the cut the early words learn nothing, the late ones all; of those before it, all."""
    table = "backbone.embeddings.weight"
    whole = gradients(compressor, EARLY + LATE, None, slice(4, 8))[table]
    cut = gradients(compressor, EARLY + LATE, 14, slice(4, 8))[table]
    assert whole[5:10].abs().max() > 1e-4 and cut[5:10].abs().max() == 0
    torch.testing.assert_close(cut[30:35], whole[30:35], atol=1e-6, rtol=1e-4)
    early = [gradients(compressor, EARLY + LATE, size, slice(0, 4)) for size in (None, 14)]
    for name, wanted in early[0].items():
        torch.testing.assert_close(early[1][name], wanted, atol=1e-6, rtol=1e-4)


def test_the_gradient_of_a_segment_is_that_of_finite_differences(compressor):
    """Along the gradient of the words after the cut, whose state stands still: (f(e) - f(-e)) / 2e is its length."""
    compressor.cut_gradients(14)
    ids, rows = torch.tensor([EARLY + LATE]), slice(30, 35)
    table = compressor.backbone.embeddings.weight

    def loss():
        return compressor(input_ids=ids).vectors.square().sum()

    loss().backward()
    slope = table.grad[rows].norm().item()
    direction, values = table.grad[rows] / slope, []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            table[rows] += step * direction
            values.append(loss().item())
            table[rows] -= step * direction
    assert slope == pytest.approx((values[0] - values[1]) / 2e-2, rel=2e-2)


def test_what_is_held_grows_by_the_result_alone(compressor):
    """Four times the history: in one pass about four times the bytes, in segments little more than the states."""

    def held(num_turns, size):
        compressor.zero_grad(set_to_none=True)
        compressor.backprop_tokens = size
        with LiveBytes() as live:
            compressor(input_ids=torch.tensor([EARLY * num_turns])).vectors.sum().backward()
        return live.peak

    whole, cut = ([held(count, size) for count in (8, 32)] for size in (None, 112))
    assert whole[1] > 3 * whole[0]
    assert cut[1] - cut[0] < (whole[1] - whole[0]) / 4


def test_what_cannot_be_cut_is_refused(compressor, make_compressor):
    with pytest.raises(CompressorDataError, match="backprop_tokens is 1, want 2 or more"):
        compressor.cut_gradients(1)
    pooled = MeanPool(MeanPoolConfig(backbone_config=make_compressor().config.backbone_config.to_dict()))
    with pytest.raises(CompressorDataError, match="a mean_pool_compressor over 'mamba2' carries no state from segment"):
        pooled.cut_gradients(64)
    compressor.gradient_checkpointing_enable()
    with pytest.raises(CompressorDataError, match="leave gradient_checkpointing out"):
        read_segments(compressor, torch.tensor([EARLY + LATE]), 14)

"""The arithmetic of memory, worked by hand."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from epo.model.live_memory import LiveBytes, skeleton, take_part, without_storage, working_set
from epo.model.memory_estimate import (
    BUCKET_ELEMENTS,
    Held,
    Parameters,
    Sharding,
    grown,
    held_in_training,
    peak_memory,
)

TEN = Parameters(trained=10, frozen=100, trained_bytes=4, frozen_bytes=2, beside=7)


def test_one_process_holds_everything():
    # 10 x 4 + 100 x 2 + 7; a gradient of 4 bytes and two moments of 4 for each that trains.
    assert held_in_training(TEN, Sharding()) == Held(weights=247, gradients=40, optimizer=80, buffers=0)


def test_data_parallel_ranks_reduce_copies_of_the_gradients():
    assert held_in_training(TEN, Sharding(num_ranks=2)) == Held(247, 40, 80, 40)


@pytest.mark.parametrize(
    ("stage", "held"),
    [
        # A float32 copy and two moments, 12 bytes each, of 10 / 4 parameters rounded up.
        (1, Held(247, 40, 36, 40)),
        (2, Held(247, 12, 36, 40)),
        # Weights too: (40 + 200) / 4, and the model beside is whole.
        (3, Held(67, 12, 36, 40)),
    ],
)
def test_zero_spreads_state_then_gradients_then_weights(stage, held):
    assert held_in_training(TEN, Sharding(num_ranks=4, zero_stage=stage)) == held


def test_fsdp2_spreads_all_and_gathers_the_rest_for_a_step():
    """(40 + 200) / 4 and what lies beside; 3 gradients; 3 times two moments; the 50 bytes outside of layers."""
    parameters = dataclasses.replace(TEN, rest=50)
    assert held_in_training(parameters, Sharding(num_ranks=4, is_fsdp=True)) == Held(67, 12, 24, 50)


def test_bfloat16_under_deepspeed_keeps_a_float32_copy():
    parameters = Parameters(trained=1000, trained_bytes=2)
    assert held_in_training(parameters, Sharding(1, 2)) == Held(2000, 2000, 12_000, 2000)


def test_a_gpu_takes_its_bucket_at_once():
    assert held_in_training(TEN, Sharding(8, 2, is_cuda=True)).buffers == 4 * BUCKET_ELEMENTS


def test_the_peak_is_that_of_the_step_or_of_the_optimizer():
    held = Held(weights=100, gradients=40, optimizer=80)
    assert peak_memory(held, forward=50, step=70, whole_gradients=40, accumulates=False) == 250
    assert peak_memory(held, forward=50, step=70, whole_gradients=40, accumulates=True) == 290
    assert peak_memory(held, forward=5, step=10, whole_gradients=40, accumulates=False) == 220  # at the update
    spread = Held(weights=100, gradients=10, optimizer=20, buffers=3)
    assert peak_memory(spread, forward=50, step=70, whole_gradients=40, accumulates=False) == 173
    assert peak_memory(spread, forward=30, step=70, whole_gradients=40, accumulates=False) == 163


def test_depth_adds_the_same_with_each_layer():
    assert grown(100, 140, 2, 4, 10) == 260
    assert grown(100, 140, 2, 4, 2) == 100


def test_a_step_counts_what_lives_at_once():
    # x of 100 floats: y = 2 x (400 bytes) lives on, each z of as many goes before the next comes.
    with without_storage():
        x = torch.zeros(100)

        def step():
            y = x * 2
            for _ in range(3):
                z = y + 1
                del z
            return None

        found = working_set(step)
    assert (found.forward, found.peak) == (800, 800)


def test_views_and_arithmetic_in_place_take_nothing():
    with without_storage():
        x = torch.zeros(4, 25)
        with LiveBytes() as live:
            x.view(100).add_(1)
            x.t()
        assert (live.now, live.peak) == (0, 0)


def test_a_backward_pass_adds_the_gradients():
    # One linear layer, 8 -> 4 without bias, on 3 rows: output 48 bytes, loss 4; then gradients of both, and 128 of the
    # weight, whose own memory is no part of the step.
    model = skeleton(lambda: nn.Linear(8, 4, bias=False))
    assert model.weight.device.type == "meta"
    with without_storage():
        take_part(model)
        x = torch.zeros(3, 8)
        found = working_set(lambda: model(x).sum())
    assert found.forward == 52
    assert 128 < found.peak <= 128 + 52 + 52


def test_tied_weights_stay_tied():
    def build():
        model = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
        model[1].weight = model[0].weight
        return model

    model = skeleton(build)
    with without_storage():
        take_part(model)
    assert model[0].weight is model[1].weight
    assert sum(1 for _ in model.parameters()) == 1


def test_recomputing_holds_less():
    from torch.utils.checkpoint import checkpoint

    model = skeleton(lambda: nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(6))))
    with without_storage():
        take_part(model)
        x = torch.zeros(512, 64, requires_grad=True)

        def step(recomputes):
            hidden = x
            for block in model:
                hidden = checkpoint(block, hidden, use_reentrant=False) if recomputes else block(hidden)
            return hidden.sum()

        plain, less = (working_set(lambda r=recomputes: step(r)).forward for recomputes in (False, True))
    assert plain == pytest.approx(6 * 2 * 512 * 64 * 4, rel=0.01)  # both halves of every block are kept
    assert less == pytest.approx(7 * 512 * 64 * 4, rel=0.01)  # every block's output, and the inside of the last


def test_another_clip_costs_another_reading_of_prompt_and_chosen_reply(make_model):
    """Of rows of 40 tokens with replies of 8: 48 columns and 16 scored a pair, and 40 more with 8 scored."""
    from peft import get_peft_model

    from epo.training.lora import lora_config
    from epo.training.planned_steps import StepSizes, pair_step

    model = make_model()[0]
    policy = get_peft_model(model, lora_config(model, 4, 8, 0.0)).train()
    peaks = []
    for reads_other in (False, True):
        with LiveBytes() as held:
            pair_step(policy, StepSizes(rows=8, tokens=40, reply=8), reads_other).backward()
        peaks.append(held.peak)
    assert 1.3 < peaks[1] / peaks[0] < 2


def test_all_weights_hold_gradients_and_no_reading_of_a_reference(make_model):
    """Four bytes of gradient and eight of moments a weight of the language model, all of which trains."""
    from epo.training.planned_steps import StepSizes
    from launch.checkup.memory import estimate_training
    from launch.checkup.stage_models import Parts, Precision

    model = make_model()[0]
    parts = Parts(model.config.text_config, model.config.extractor_config, model.config.compressor_config)
    recipe = SimpleNamespace(tune="all", conditional_weight=0.0, tokens_per_row=None)
    sizes = StepSizes(rows=2, tokens=40, reply=8, history=20, memories=4, mel_frames=100, video_frames=2)
    found = estimate_training("epo.py", recipe, parts, Precision(), Sharding(), sizes, False)
    trained, every = (sum(p.numel() for p in one.parameters()) for one in (model.language_model, model))
    assert (found.held.gradients, found.held.optimizer, found.held.weights) == (4 * trained, 8 * trained, 4 * every)
    assert found.lora == 0 and found.peak > 4 * every + 12 * trained


def test_long_rows_cost_masks(make_model):
    """Eight pairs of 48 tokens: eight masks of 48 x 48, or one of 384 x 384, eight times as much, for each reading."""
    from peft import get_peft_model

    from epo.training.lora import lora_config
    from epo.training.planned_steps import StepSizes, pair_step

    model = make_model()[0]
    policy = get_peft_model(model, lora_config(model, 4, 8, 0.0)).train()
    peaks = []
    for tokens_per_row in (None, 384):
        with LiveBytes() as held:
            pair_step(policy, StepSizes(rows=8, tokens=40, reply=8), False, tokens_per_row).backward()
        peaks.append(held.peak)
    assert peaks[1] - peaks[0] > (384 * 384 - 8 * 48 * 48) * 4

"""Bytes held and sent, and seconds, against numbers worked by hand; and the page's table against the formulas."""

import importlib.util
from pathlib import Path

import pytest

from epo.model.memory_estimate import Parameters, Sharding, held_in_training
from epo.model.scaling import Machine, bytes_sent, step_time

ROOT = Path(__file__).parents[2]
FULL, LORA = Parameters(1000, 0, 2, 2), Parameters(100, 1000, 2, 2)


@pytest.mark.parametrize(
    ("parameters", "stage", "accumulation", "messages"),
    [
        (FULL, None, 4, 4000),  # all-reduce of 2000 bytes of gradients, once: 2 x 2000
        (FULL, 1, 4, 4000),  # reduce-scatter 2000, gather 2000
        (FULL, 2, 1, 4000),
        (FULL, 2, 4, 10_000),  # 4 x 2000 and 2000
        (FULL, 3, 1, 6000),  # weights twice, gradients once: Rajbhandari's 3 Psi
        (FULL, 3, 4, 24_000),
        (LORA, 1, 1, 400),
        (LORA, 3, 1, 4600),  # 2 x (200 + 2000) + 200: LoRA saves no gathering of frozen weights
    ],
)
def test_bytes_sent_a_step(parameters, stage, accumulation, messages):
    assert bytes_sent(parameters, Sharding(4, stage), accumulation) == messages * 3 // 4
    assert bytes_sent(parameters, Sharding(1, stage), accumulation) == 0


def test_fsdp2_gathers_as_zero3_does():
    """2 x (400 + 2000) of weights, those that train in float32, and 400 of gradients, of which 3/4."""
    assert bytes_sent(Parameters(100, 1000, 4, 2), Sharding(4, is_fsdp=True)) == 5200 * 3 // 4


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(1, 2000, 2000, 3000), (2, 2000, 500, 3000), (3, 500, 500, 3000)],
)
def test_bytes_held_on_four_devices(stage, weights, gradients, optimizer):
    """2 bytes a weight and a gradient, 12 of a float32 copy and two moments, each spread from its stage on."""
    held = held_in_training(FULL, Sharding(4, stage))
    assert (held.weights, held.gradients, held.optimizer) == (weights, gradients, optimizer)


def test_seconds_of_a_step():
    machine = Machine(
        devices_per_node=4, flops_per_s=1e6, utilisation=0.5, node_bytes_per_s=1000.0, network_bytes_per_s=100.0,
        overlap=0.5,
    )  # fmt: skip
    # 100 tokens x (2 x 1000 x 3 + 2 x 1000) = 800,000 operations, on 4 x 500,000 a second; 4500 bytes at 1000 a second
    inside = step_time(FULL, Sharding(4, 3), 100, machine)
    assert (inside.arithmetic, inside.communication) == pytest.approx((0.4, 4.5))
    assert inside.total == pytest.approx(0.4 + 4.5 - 0.4)  # no more is hidden than there is arithmetic
    across = step_time(FULL, Sharding(8, 1), 100, machine, recomputes=False)
    assert across.arithmetic == pytest.approx(100 * 6000 / (8 * 5e5))
    assert across.communication == pytest.approx(4000 * 7 / 8 / 100)


def test_the_page_shows_what_the_formulas_say():
    spec = importlib.util.spec_from_file_location("scaling_table", ROOT / "benchmarks/scaling.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    page = (ROOT / "docs/scaling.md").read_text()
    assert "\n".join(table.rows()) in page

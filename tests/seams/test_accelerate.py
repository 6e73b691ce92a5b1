"""What accelerate does with FSDP2: forgets it on CPUs, and lets one function shard a model."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch import nn

from compressor.seams import sharded_by, use_fsdp


@pytest.fixture
def accelerator(monkeypatch):
    """As `accelerate launch` has it for FSDP2 on CPUs, but for the other ranks."""
    for name, value in {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    }.items():
        monkeypatch.setenv(name, value)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_CPU
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.seam("fsdp_on_cpus")
def test_a_state_on_cpus_forgets_fsdp_and_can_be_told(accelerator):
    assert not accelerator.is_fsdp2 and accelerator.distributed_type == DistributedType.MULTI_CPU
    trainer = SimpleNamespace(accelerator=accelerator, is_fsdp_enabled=False)
    use_fsdp(trainer)
    assert accelerator.is_fsdp2 and trainer.is_fsdp_enabled
    assert accelerator.gradient_state.plugin_kwargs["sync_each_batch"] is True


@pytest.mark.seam("fsdp2_prepare")
def test_a_function_of_ours_shards_and_the_optimizer_gets_what_it_makes(accelerator):
    use_fsdp(SimpleNamespace(accelerator=accelerator, is_fsdp_enabled=False))
    model, asked = nn.Linear(2, 1), []

    def shard(who, what):
        asked.append((who, what))
        what.weight, what.bias = (nn.Parameter(parameter.detach() + 1) for parameter in (what.weight, what.bias))
        return what

    with sharded_by(shard):
        prepared, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert asked == [(accelerator, model)] and prepared is model
    held = optimizer.param_groups[0]["params"]
    assert held[0] is model.weight and held[1] is model.bias

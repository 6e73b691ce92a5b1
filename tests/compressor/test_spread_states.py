"""Rows that ranks wrote each for itself are read by any number of ranks, without a pickle."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from compressor.checkpoints.training_states import StateError, read_spread_state, write_state

WHOLE = torch.arange(10.0).view(5, 2)


@pytest.fixture
def become():
    """Take this process for one of several ranks, none of which is asked for anything."""

    def become(rank, count):
        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group("fake", rank=rank, world_size=count, store=FakeStore())
        return init_device_mesh("cpu", (count,))

    yield become
    dist.destroy_process_group()


def spread(rows, mesh):
    return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=WHOLE.shape, stride=(2, 1))


@pytest.fixture
def paths(become, tmp_path):
    """Of two ranks, which hold three rows and two."""
    found = []
    for rank, rows in enumerate((WHOLE[:3], WHOLE[3:])):
        state = {"state": {0: {"exp_avg": spread(rows, become(rank, 2)), "step": torch.tensor(7.0)}}, "lr": 0.5}
        found.append(tmp_path / f"optimizer_{rank}.safetensors")
        write_state(found[-1], state)
    return found


@pytest.mark.parametrize(("count", "shares"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (4, [2, 2, 1, 0])])
def test_any_number_of_ranks_reads_its_rows(paths, become, count, shares):
    """A rank has ceil(5 / count) rows as long as there are any, as torch deals them out."""
    begin = 0
    for rank, share in enumerate(shares):
        read = read_spread_state(paths, become(rank, count))
        mean = read["state"][0]["exp_avg"]
        assert mean.to_local().tolist() == WHOLE[begin : begin + share].tolist()
        assert mean.shape == WHOLE.shape and mean.stride() == (2, 1)
        assert read["state"][0]["step"].item() == 7.0 and read["lr"] == 0.5
        begin += share


def test_what_is_not_spread_by_rows_is_refused(become, tmp_path):
    whole = DTensor.from_local(WHOLE, become(0, 2), [Replicate()], run_check=False)
    with pytest.raises(StateError, match="want its rows over all ranks"):
        write_state(tmp_path / "state.safetensors", {"a": whole})
    assert not list(tmp_path.iterdir())

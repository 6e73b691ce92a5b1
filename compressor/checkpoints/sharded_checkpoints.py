"""FSDP2's part of a checkpoint: each rank writes its rows of weights and states, any number of ranks reads them.

    checkpoint-N/weights_RANK.safetensors
    checkpoint-N/optimizer_RANK.safetensors

torch's own format for this keeps a pickle beside the tensors.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from compressor.checkpoints.training_states import read_spread_state, write_state
from compressor.fully_sharded import spread_tensors


def write_rows(folder: Path, model: nn.Module, optimizer: Any) -> None:
    """Write what this rank holds; every rank calls it.

    Of a model with an adapter around it the adapter and what trains: the rest is where the stage began.

    Args:
        folder: of the checkpoint; it is made where it is not there.
        model: sharded.
        optimizer: of it.

    Raises:
        StateError: the optimizer spreads its states otherwise than by rows, or keeps what is no plain data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, tensor in spread_tensors(model, is_adapter=hasattr(model, "get_base_model")):
        if id(tensor) not in written:  # tied weights once
            written.add(id(tensor))
            weights[name] = tensor
    write_state(folder / f"weights_{dist.get_rank()}.safetensors", weights)
    write_state(folder / f"optimizer_{dist.get_rank()}.safetensors", optimizer.state_dict())


@torch.no_grad()
def read_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights of a checkpoint into a sharded model, in place; every rank calls it."""
    now = model.state_dict(keep_vars=True)
    for name, tensor in read_spread_state(_files(folder, "weights"), _mesh(model)).items():
        here = now[name]
        if hasattr(here, "to_local"):
            here, tensor = here.to_local(), tensor.to_local()
        here.copy_(tensor)


def read_optimizer(folder: Path, model: nn.Module, optimizer: Any) -> None:
    """Put the states of a checkpoint into the optimizer of a sharded model; every rank calls it."""
    optimizer.load_state_dict(read_spread_state(_files(folder, "optimizer"), _mesh(model)))


def _files(folder: Path, kind: str) -> list[Path]:
    count = len(list(folder.glob(f"{kind}_*.safetensors")))
    return [folder / f"{kind}_{rank}.safetensors" for rank in range(count)]


def _mesh(model: nn.Module) -> Any:
    parameter: Any = next(model.parameters())
    return parameter.device_mesh


__all__ = ["read_optimizer", "read_weights", "write_rows"]

"""FSDP2: weights, gradients and optimizer states spread over the ranks by torch's `fully_shard`.

Each layer that is named is gathered when it is called, for its forward and again for its backward pass. All the rest
is one part, gathered when the model is called and kept until its backward pass is done: so modules in it may read
weights of modules below them without calling them. As under DistributedDataParallel, `bf16` means autocast: weights
are gathered as they are held, and gradients reduced in float32.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def shard(accelerator: Any, model: "nn.Module", layers: Iterable["nn.Module"]) -> "nn.Module":
    """Spread a model over all ranks, in place, and return it.

    Args:
        accelerator: of accelerate; says the device, and wraps the forward pass in autocast where the recipe has bf16.
        model: the same on all ranks.
        layers: modules in it that are gathered each by itself, none inside another.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for part in (*layers, model):
        fully_shard(part, mesh=mesh)
    # What is gathered first decides for good what trains; a LoRA that is off at that moment never would.
    for part in _parts(model):
        part.unshard()
        part.reshard()
    return model


def gather_rest(model: "nn.Module") -> None:
    """Gather all but the layers ahead of the model's call, for who reads parts of it before; nothing if not sharded.

    Every rank must call it. The weights are given back at the end of the next backward pass.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.unshard()


@contextlib.contextmanager
def gathered(model: "nn.Module") -> Iterator[None]:
    """Let each rank use the model by itself, all of it gathered on every one; all ranks must enter."""
    parts = _parts(model)
    _reshard_after_forward(parts, False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        _reshard_after_forward(parts[1:], True)


def full_state(model: "nn.Module", is_adapter: bool = False) -> dict[str, "Tensor"]:
    """Return the state dict on rank 0, on the CPU, gathered tensor by tensor, and nothing on others; all must call it.

    Args:
        model: sharded.
        is_adapter: as of `spread_tensors`.
    """
    import torch.distributed as dist

    found: dict[int, Tensor] = {}
    state = {}
    for name, tensor in spread_tensors(model, is_adapter):
        if id(tensor) not in found:  # tied weights stay tied
            whole = tensor.detach().full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach()
            found[id(tensor)] = whole.to("cpu", copy=True) if dist.get_rank() == 0 else whole.new_empty(0)
        state[name] = found[id(tensor)]
    return state if dist.get_rank() == 0 else {}


def spread_tensors(model: "nn.Module", is_adapter: bool) -> Iterator[tuple[str, Any]]:
    """Yield names and tensors of a model's state, as this rank holds them.

    Args:
        model: sharded.
        is_adapter: leave out all that does not train and is in no LoRA: it is where the stage began.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not is_adapter or tensor.requires_grad or ".lora_" in name:
            yield name, tensor


def _parts(model: "nn.Module") -> list[Any]:
    """Return what is gathered each by itself, the rest of the model first."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _reshard_after_forward(parts: Iterable[Any], value: bool) -> None:
    for part in parts:
        part.set_reshard_after_forward(value, recurse=False)


__all__ = ["full_state", "gather_rest", "gathered", "shard", "spread_tensors"]

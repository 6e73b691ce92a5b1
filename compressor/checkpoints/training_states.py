"""States of optimizers, schedules and random generators in safetensors, from which nothing can be executed.

torch writes such states with pickle. Here tensors go into a safetensors file, and what stands around them, plain
numbers, texts, lists and dictionaries, as JSON into its header. Where FSDP2 spreads tensors over the ranks, each rank
writes its rows of them to a file of its own.
"""

import contextlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_STRUCTURE = "structure"


class StateError(ValueError):
    """A state holds something that is neither a tensor nor plain data."""


def write_state(path: Path, state: Any) -> None:
    """Write a nested state.

    Args:
        path: of the file, by convention `.safetensors`.
        state: tensors, numbers, texts and None in dicts, lists and tuples; keys of dicts are texts or integers. Of
            tensors whose rows are spread over ranks those of this rank are written.

    Raises:
        StateError: it holds anything else; nothing is written.
    """
    kept_state(path, state)()


def kept_state(path: Path, state: Any) -> Callable[[], None]:
    """Copy a nested state as it is now, tensors to the CPU, and return what writes the copy.

    Args and errors as of `write_state`.
    """
    tensors: dict[str, Tensor] = {}
    structure = _pack(state, tensors)
    return lambda: save_file(tensors, path, metadata={_STRUCTURE: json.dumps(structure)})


def read_state(path: Path) -> Any:
    """Return the state that `write_state` wrote, its tensors on the CPU."""
    with safe_open(path, "pt") as file:
        return _unpack(json.loads(file.metadata()[_STRUCTURE]), file.get_tensor, None)


def read_spread_state(paths: Sequence[Path], mesh: Any) -> Any:
    """Return the state of which each rank wrote its rows, spread over the ranks of now, whose number may be another.

    Args:
        paths: of the files of all ranks that wrote, in their order.
        mesh: torch's device mesh of all ranks of now.
    """
    from torch.distributed.tensor import DTensor, Shard

    rank, num_ranks = mesh.get_local_rank(), mesh.size()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in paths]
        own = files[rank] if len(files) == num_ranks else files[0]

        def spread(name: str, num_rows: int) -> DTensor:
            if len(files) == num_ranks:
                rows = own.get_tensor(name)
            else:
                share = -(-num_rows // num_ranks)
                rows = torch.cat([file.get_tensor(name) for file in files])[rank * share : (rank + 1) * share].clone()
            shape = torch.Size((num_rows, *rows.shape[1:]))
            stride = torch.empty(shape, device="meta").stride()
            rows = rows.to(mesh.device_type)
            return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)

        return _unpack(json.loads(own.metadata()[_STRUCTURE]), own.get_tensor, spread)


def random_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's global generators, and of this process's GPU."""
    kind, keys, *place = np.random.get_state(legacy=True)
    states = {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *place),
        "cpu": torch.get_rng_state(),
    }
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_states(states: dict[str, Any]) -> None:
    """Put the global generators where `random_states` found them."""
    random.setstate(states["python"])
    kind, keys, *place = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *place))
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON can say it, a dict for whatever is none of JSON's own scalars; tensors go to `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        if hasattr(value, "to_local"):
            spread: Any = value
            if not (len(spread.placements) == 1 and spread.placements[0].is_shard(0)):
                raise StateError(f"a tensor is spread as {spread.placements}, want its rows over all ranks")
            tensors[name] = spread.detach().to_local().to("cpu", copy=True).contiguous()
            return {"rows": [name, spread.size(0)]}
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()  # safetensors refuses shared storage
        return {"tensor": name}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return _pack(value.item(), tensors)
    if isinstance(value, dict) and all(type(key) in (int, str) for key in value):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, tensors) for item in value]}
    raise StateError(f"a state holds a {type(value).__name__}, want tensors and plain data")


def _unpack(value: Any, tensor: Callable[[str], Tensor], spread: Callable[[str, int], Tensor] | None) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensor(content)
    if kind == "rows":
        assert spread is not None
        return spread(*content)
    if kind == "dict":
        return {key: _unpack(item, tensor, spread) for key, item in content}
    items = [_unpack(item, tensor, spread) for item in content]
    return tuple(items) if kind == "tuple" else items

"""States of optimizers, schedules and random generators in safetensors, from which nothing can be executed.

torch writes such states with pickle. Here tensors go into a safetensors file, and what stands around them, plain
numbers, texts, lists and dictionaries, as JSON into its header.
"""

import json
import random
from collections.abc import Callable
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
        state: tensors, numbers, texts and None in dicts, lists and tuples; keys of dicts are texts or integers.

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
        structure = json.loads(file.metadata()[_STRUCTURE])
        return _unpack(structure, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no dict)


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


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items

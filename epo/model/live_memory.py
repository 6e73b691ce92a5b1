"""How much memory a computation holds at its fullest, found without doing it: its tensors have shapes and no storage.

A step of training is run on torch's fake tensors: every operation of the real classes happens, on shapes alone. What an
operation allocates is counted when its result appears and taken off when nothing holds it any more, so that what the
backward pass needs, what recomputing saves and what is held for a moment are all in it.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class WorkingSet:
    """What a step holds beside the weights and the optimizer's state, in bytes.

    Attributes:
        forward: at its fullest until the loss is known: activations and scores.
        peak: at its fullest, the backward pass included, where gradients appear as activations go.
    """

    forward: int
    peak: int


@contextlib.contextmanager
def without_storage() -> Iterator[None]:
    """Let tensors that are made inside have shapes and no storage."""
    with FakeTensorMode():
        yield


def skeleton(build: Callable[[], Model]) -> Model:
    """Return a model as it is built, on the meta device: its weights have shapes, and nothing is started or read."""
    with torch.device("meta"):
        return build()


def take_part(model: nn.Module) -> None:
    """Let a skeleton take part in steps on a CPU, in place; call it inside `without_storage`."""
    tied: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in tied:
                    data = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                    tied[id(parameter)] = nn.Parameter(data, parameter.requires_grad)
                module._parameters[name] = tied[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def working_set(step: Callable[[], Tensor | None]) -> WorkingSet:
    """Return what a step holds at its fullest; call it inside `without_storage`, with the model it works on.

    Args:
        step: returns its loss, whose backward pass then runs too; None where nothing is learnt.
    """
    with LiveBytes() as live:
        loss = step()
        forward = live.peak
        if loss is not None:
            loss.backward()
        del loss
    return WorkingSet(forward, live.peak)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storage that appears while it is entered, and how many there were at once.

    Attributes:
        now: bytes that are alive.
        peak: most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it made. Views share the storage of what they look at."""
        known_before = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        }
        result = func(*args, **({} if kwargs is None else kwargs))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in known_before:
                    self._note(storage)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


__all__ = ["LiveBytes", "WorkingSet", "skeleton", "take_part", "without_storage", "working_set"]

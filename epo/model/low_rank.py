"""Low-rank changes that stay beside the weights they change, since rounding their sum would lose the small ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import Conv1D


class LowRankLinear(nn.Linear):
    """A linear layer with a finished low-rank change: y = W x + b + up (down x).

    bfloat16 has 8 bits: added to W, a change of less than 1/512 of a weight would be rounded away. `down` is (rank, in)
    and `up` (out, rank). As a linear layer it can take a further LoRA.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.down = nn.Parameter(linear.weight.new_zeros(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        return super().forward(x) + functional.linear(functional.linear(x, self.down), self.up)


class LowRankConv1D(Conv1D):
    """The same for GPT-2's linear layer, which stores its weight as (in, out)."""

    def __init__(self, layer: Conv1D, rank: int) -> None:
        nn.Module.__init__(self)
        self.nf, self.nx, self.weight, self.bias = layer.nf, layer.nx, layer.weight, layer.bias
        self.down = nn.Parameter(layer.weight.new_zeros(rank, layer.nx))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.nf, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in)."""
        output: Tensor = super().forward(x) + functional.linear(functional.linear(x, self.down), self.up)
        return output


def add_low_rank(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Put a layer with a low-rank change that changes nothing yet in the place of linear layers.

    Args:
        model: changed in place.
        ranks: full name of each layer, and the rank of its change.
    """
    for name, rank in ranks.items():
        parent, _, child = name.rpartition(".")
        layer: Any = model.get_submodule(name)
        changed = LowRankConv1D(layer, rank) if isinstance(layer, Conv1D) else LowRankLinear(layer, rank)
        setattr(model.get_submodule(parent), child, changed)


def take_in_low_rank(model: nn.Module) -> None:
    """Add finished low-rank changes to the weights beside which they stand, in place: plain layers remain.

    Args:
        model: in float32, or small changes would be rounded away.
    """
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, LowRankLinear | LowRankConv1D):
            continue
        change = layer.up.data @ layer.down.data
        if isinstance(layer, LowRankLinear):
            plain: nn.Module = nn.Linear(layer.in_features, layer.out_features, device="meta")
            layer.weight.data += change
        else:
            plain = Conv1D(layer.nf, layer.nx)
            layer.weight.data += change.T
        plain.weight, plain.bias = layer.weight, layer.bias
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)

"""LoRA's change of what a layer gives, scaled on its narrow side and added in place: less memory moved than by PEFT."""

from typing import Any

from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor, nn


class InPlaceSum(LoraVariant):
    """W x + B (s A x), where PEFT computes W x + s (B A x) (Hu et al. 2021, arXiv 2106.09685, equation 3).

    Of n tokens, A x holds n r numbers and B A x as many as the layer gives. PEFT scales the latter, whose gradient is
    then scaled too, and writes the sum anew: three passes over memory that are not taken here. Where s is a power of
    two, as of alpha 32 and rank 16, the numbers are equal bit by bit.
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        """Return the layer's output.

        Args:
            module: PEFT's layer.
            active_adapter: its name.
            x: (..., in), in the dtype of A.
            result: (..., out), what the base layer made of it; no other use is made of it.
            kwargs: of other variants.
        """
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        narrow = down(module.lora_dropout[active_adapter](x)) * module.scaling[active_adapter]
        change: Tensor = up(narrow)
        # A view is left as it is: autograd would copy it, or refuse where it comes from a function of ours.
        is_ours = change.dtype == result.dtype and not result._is_view()
        return result.add_(change) if is_ours else result + change

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Return the weight with the change in it, as PEFT merges a plain LoRA."""
        change: Tensor = module.get_delta_weight(active_adapter)
        return orig_weight + change.to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """Add the change to the weight."""
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Return the weight without the change."""
        change: Tensor = module.get_delta_weight(active_adapter)
        return orig_weight - change.to(orig_weight.dtype)


def add_in_place(model: nn.Module) -> int:
    """Let the plain LoRA of a model's linear layers be added in place from now on; return of how many.

    Left as they are: variants (DoRA), a LoRA with a bias, other libraries' layers in few bits.

    Args:
        model: with PEFT's layers in it; none is added later.
    """
    count = 0
    layers: list[Any] = [module for module in model.modules() if type(module) is Linear]
    for layer in layers:
        for name in layer.lora_A:
            if name not in layer.lora_variant and not layer.lora_bias[name]:
                layer.lora_variant[name] = InPlaceSum()
                count += 1
    return count


__all__ = ["add_in_place"]

"""Frozen linear layers held in 4 or 8 bits, and computed with as the plain weights that they were rounded to.

Rounding what was rounded before changes nothing, so the plain weights that are saved (`plain_state`) are those that
were computed with, to the bit: a folder written by a quantized run is a normal model, and read in 4 bits again it is
the model that trained. Activations are not rounded (our choice; LLM.int8 of arXiv 2208.07339 rounds them too), so what
a row gets does not depend on the rows beside it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo.extras import require_extra
from epo.model.low_rank import LowRankLinear

Quantization = Literal["none", "4bit", "8bit"]
"""How the language model's linear layers are held: as they are, in NF4, or as int8 with a scale a row."""

_BLOCK = 64
"""Weights that share a scale in NF4, as published."""


class QuantizationError(ValueError):
    """A model that cannot be held in few bits, or not trained as it was asked for."""


class _Format(Protocol):
    """How a matrix becomes codes and float32 scales, and what plain matrix they stand for."""

    def quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and float32 scales of a matrix (out, in)."""

    def restore(self, codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Return the matrix (out, in) that they stand for."""


class _NormalFloat4:
    """NF4: the 16 quantiles of a normal distribution, scaled by the largest of each 64 weights.

    Source: Dettmers et al. 2023, arXiv 2305.14314, section 3, by bitsandbytes. Scales are not quantized in turn: of
    those, quantizing twice would be other than once.
    """

    def quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        bitsandbytes = _kernels()
        codes, state = bitsandbytes.functional.quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
        return codes.flatten(), state.absmax

    def restore(self, codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        # Of rows of odd length bitsandbytes compiles a kernel of its own on CPUs, which takes minutes.
        whole = list(shape) if shape[1] % 2 == 0 else [1, 2 * codes.numel()]
        _kernels()
        restored: Tensor = torch.ops.bitsandbytes.dequantize_4bit(codes, scales, _BLOCK, "nf4", whole, dtype)
        return restored.flatten()[: shape[0] * shape[1]].view(shape)


class _Int8:
    """Integers of -127 to 127, scaled by the largest weight of each row (arXiv 2208.07339, section 2.1, of weights)."""

    def quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        weight = weight.float()
        scales = weight.abs().amax(dim=1, keepdim=True)
        return (weight / scales.where(scales > 0, 1) * 127).round().to(torch.int8), scales

    def restore(self, codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        # In this order 127 gives the scale itself back, so that rounding again changes nothing.
        return codes.float().div_(127).mul_(scales).to(dtype)


class _ShapesAlone:
    """The sizes of a format, for models without weights (`epo.model.live_memory`); needs no kernels."""

    def __init__(self, quantize: Quantization) -> None:
        self._is_int8 = quantize == "8bit"

    def quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows, size = weight.size(0), weight.numel()
        if self._is_int8:
            return torch.empty_like(weight, dtype=torch.int8), weight.new_empty((rows, 1), dtype=torch.float32)
        codes = weight.new_empty(-(-size // 2), dtype=torch.uint8)
        return codes, weight.new_empty(-(-size // _BLOCK), dtype=torch.float32)

    def restore(self, codes: Tensor, scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=codes.device)


class QuantizedLinear(nn.Linear):
    """A linear layer that stands still and whose weight is held in few bits; a finished low-rank change stays with it.

    `codes` and `scales` are parameters that never train; the float32 scales lie in them as int32, so that no cast of a
    model rounds them. Each forward and each backward pass makes the plain weight anew and lets it go, so that one
    layer's is there at a time.

    Attributes:
        quantize: how it is held.
        plain_dtype: of the weight that it stands for.
        has_rounded: whether that weight is another than the one it was made from.
    """

    def __init__(self, linear: nn.Linear, quantize: Quantization) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.quantize, self.plain_dtype, self.has_rounded = quantize, linear.weight.dtype, True
        self._format = _ShapesAlone(quantize) if linear.weight.is_meta else _FORMATS[quantize]
        codes, scales = self._format.quantize(linear.weight.detach())
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scales = nn.Parameter(scales.view(torch.int32), requires_grad=False)
        self.down: nn.Parameter | None = linear.down if isinstance(linear, LowRankLinear) else None
        self.up: nn.Parameter | None = linear.up if isinstance(linear, LowRankLinear) else None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # of nn.Linear it is a parameter
        """The plain weight (out, in), made anew at each call; nothing can be added to it."""
        plain = self.plain_weight()
        return plain.as_subclass(_ReadOnly) if type(plain) is Tensor else plain  # those without storage cannot be

    def plain_weight(self) -> Tensor:
        """Return the plain weight (out, in) in the dtype that it had."""
        scales = self.scales.detach().view(torch.float32)
        return self._format.restore(
            self.codes.detach(), scales, (self.out_features, self.in_features), self.plain_dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x (..., in), as a linear layer with `plain_weight` would."""
        output: Tensor = _RestoredLinear.apply(x, self)  # type: ignore[no-untyped-call]
        if self.down is None or self.up is None:
            return output
        return output + functional.linear(functional.linear(x, self.down), self.up)


class _RestoredLinear(torch.autograd.Function):
    """x W^T + b whose W is made anew for the backward pass instead of being kept from the forward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        weight = layer.plain_weight()
        is_cast = torch.is_autocast_enabled(x.device.type)  # functional.linear casts, then
        return functional.linear(x, weight if is_cast else weight.to(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.plain_weight().to(gradient.dtype), None


class _ReadOnly(Tensor):
    """A weight that was made from codes: what is set in it would be lost, so PEFT's merging is refused."""

    __torch_function__: Any = torch._C._disabled_torch_function_impl  # what is computed from it is a plain tensor

    @property
    def data(self) -> Tensor:
        """The numbers, to be read."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        raise QuantizationError(
            "a weight held in few bits takes no change in: merge the adapter into the model loaded without quantize"
        )


_FORMATS: dict[str, _Format] = {"4bit": _NormalFloat4(), "8bit": _Int8()}


def require_quantizer(quantize: Quantization) -> None:
    """Refuse a format whose kernels are not installed; 8 bits need none.

    Raises:
        MissingExtraError: holds the command that installs them.
    """
    if quantize == "4bit":
        require_extra("quantize: 4bit", "bitsandbytes")


def quantize_linears(model: nn.Module, names: Iterable[str], quantize: Quantization, part: str = "") -> None:
    """Put quantized layers in the place of linear layers, one by one, so that a model is never there twice.

    What is no linear layer, such as GPT-2's transposed ones and the joined weights of experts, stays as it is.

    Args:
        model: changed in place; its other weights are copied out of the file that they may be mapped from.
        names: full names of layers.
        quantize: not "none".
        part: where the model is from, for messages.

    Raises:
        MissingExtraError: the kernels are not installed.
        QuantizationError: none of them is a linear layer, a weight is not finite, the weights hold a LoRA that
            rounding would lose, or the kernels do not run here.
    """
    where = part or type(model).__name__
    if getattr(model, "has_taken_lora_in", False):
        raise QuantizationError(
            f"{where}: was tuned in float32, and {quantize} would round away what it learnt; leave quantize "
            f"out, or tune it with quantize: {quantize} too"
        )
    found = [name for name in names if isinstance(model.get_submodule(name), nn.Linear)]
    if not found:
        raise QuantizationError(
            f"{where}: its language model has no linear layers of the kind that could be held in {quantize} "
            f"({type(model).__name__}); leave quantize out"
        )
    if not model.get_submodule(found[0]).weight.is_meta:
        require_quantizer(quantize)
        if quantize == "4bit":
            _require_working_kernels()
    for name in found:
        linear: Any = model.get_submodule(name)
        made = QuantizedLinear(linear, quantize)
        if not linear.weight.is_meta:
            if not made.scales.view(torch.float32).isfinite().all():
                raise QuantizationError(f"{where}: {name} holds weights that are not finite; get the model anew")
            made.has_rounded = not torch.equal(made.plain_weight(), linear.weight)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made.train(linear.training))
    _let_files_go(model)


def quantized_line(model: nn.Module) -> str | None:
    """Return a line on how a model's language model is held, None where all of it is plain."""
    layers = [layer for _, layer in _quantized_layers(model)]
    if not layers:
        return None
    held = sum(p.numel() * p.element_size() for layer in layers for p in (layer.codes, layer.scales))
    plain = sum(layer.in_features * layer.out_features * layer.plain_dtype.itemsize for layer in layers)
    sizes = f"{held / 2**20:,.1f} MiB instead of {plain / 2**20:,.1f} MiB"
    return f"language model: {len(layers)} linear layers held in {layers[0].quantize}, {sizes}"


def has_rounded(model: nn.Module) -> bool:
    """Tell whether quantizing a model changed its weights, as of one that was not tuned in the same few bits."""
    return any(layer.has_rounded for _, layer in _quantized_layers(model))


def plain_state(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with plain weights, on the CPU, where a model has quantized layers.

    Args:
        model: whose state it is.
        state: of the model, by the names of its parameters; layers that are not in it are left out.
    """
    plain = dict(state)
    for name, layer in _quantized_layers(model):
        if plain.pop(f"{name}.codes", None) is not None:
            del plain[f"{name}.scales"]
            plain[f"{name}.weight"] = layer.plain_weight().cpu()
    return plain


def is_quantized(model: nn.Module) -> bool:
    """Tell whether a model has quantized layers."""
    return any(True for _ in _quantized_layers(model))


def require_still(model: nn.Module, trainable: Iterable[str]) -> None:
    """Refuse to train weights that are held in few bits.

    Args:
        model: of any kind.
        trainable: parts of the names of parameters that are to train.

    Raises:
        QuantizationError: one of them names such a weight, or the bias beside it.
    """
    for name, layer in _quantized_layers(model):
        held = [f"{name}.{own}" for own in ("weight", "codes", "scales")]
        held += [] if layer.bias is None else [f"{name}.bias"]
        for part in trainable:
            if any(part in full for full in held):
                raise QuantizationError(
                    f"trainable: {part!r} names weights of the language model, which are held in {layer.quantize} and "
                    "cannot train; leave it out and train the LoRA beside them, or leave quantize out"
                )


def weight_sizes(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Return name, tensor and number of weights of each parameter; that of codes is of the weights they stand for."""
    of_codes: dict[int, int] = {}
    for _, layer in _quantized_layers(model):
        of_codes |= {id(layer.codes): layer.in_features * layer.out_features, id(layer.scales): 0}
    for name, parameter in model.named_parameters():
        yield name, parameter, of_codes.get(id(parameter), parameter.numel())


def _quantized_layers(model: nn.Module) -> Iterator[tuple[str, QuantizedLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear))


def _require_working_kernels() -> None:
    """Try the kernels of four bits where layers are quantized, on the CPU, and where they will be computed with."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        try:
            codes, scales = _FORMATS["4bit"].quantize(torch.ones(1, _BLOCK))
            _FORMATS["4bit"].restore(codes.to(device), scales.to(device), (1, _BLOCK), torch.float32)
        except Exception as error:  # whatever a build for another machine does
            reason = " ".join(str(error).split())[:120]
            raise QuantizationError(
                f"quantize: 4bit does not run on {device} here ({reason}); install a bitsandbytes built for it, "
                "or set quantize: 8bit, which needs none"
            ) from error


def _let_files_go(model: nn.Module) -> None:
    """Copy the weights that stay plain out of the files that they may be mapped from, in place."""
    for parameter in model.parameters():
        if not parameter.is_meta:
            parameter.data = parameter.data.clone()


def _kernels() -> Any:
    import bitsandbytes

    return bitsandbytes


__all__ = [
    "Quantization",
    "QuantizationError",
    "QuantizedLinear",
    "has_rounded",
    "is_quantized",
    "plain_state",
    "quantize_linears",
    "quantized_line",
    "require_quantizer",
    "require_still",
    "weight_sizes",
]

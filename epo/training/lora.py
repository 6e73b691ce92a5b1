"""LoRA on the language model only: where it goes, and how trained adapters become part of the model."""

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import Conv1D

from epo.model.family import bare, family_of
from epo.model.linears import LoraTargetError, layers_around
from epo.model.quantized import require_still, weight_sizes

LoraVariant = Literal["plain", "rslora", "dora"]
"""LoRA as published, with the scale alpha / sqrt(rank), or with the length of each row of a weight trained apart."""

_LANGUAGE_MODEL = "language_model."

TUNED = ("lora_", "extractor", "clip_head", "clip_norm", "emotion_words", "compressor")
"""Parts of the names of parameters that supervised tuning trains unless told otherwise."""


def language_model_linears(model: nn.Module) -> list[str]:
    """Return the full names of the matrices inside the language model that LoRA adapts, the head left out.

    Raises:
        FamilyError: the model is of no family.
        LoraTargetError: there is none.
    """
    return family_of(model).lora_targets(bare(model))


def language_model_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of the language model, each of which is gathered by itself where the model is sharded.

    Raises:
        FamilyError: the model is of no family.
        LoraTargetError: there is none.
    """
    return layers_around(bare(model), language_model_linears(model))


def left_out(model: nn.Module) -> list[str]:
    """Return the names of the language model's matrices that LoRA does not adapt, such as the weights of experts.

    Embeddings, the head and convolutions over positions are left out by intent and not named.
    """
    by_intent = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d)
    return [
        f"{name}.{own}"
        for name, module in model.named_modules()
        if name.startswith(_LANGUAGE_MODEL) and not isinstance(module, by_intent)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.dim() > 1
    ]


def say_left_out(model: nn.Module) -> None:
    """Print one line if there are matrices in the language model that LoRA leaves as they are."""
    names = left_out(model)
    if names:
        print(f"LoRA leaves out {len(names)} matrices of the language model that are no linear layers: {names[0]}, ...")


class LoraVariantError(ValueError):
    """A variant of LoRA that could not become part of the model as it was trained."""


def lora_config(model: nn.Module, rank: int, alpha: int, dropout: float, variant: LoraVariant = "plain") -> LoraConfig:
    """Return the LoRA of every linear layer of the language model (Hu et al. 2021, arXiv 2106.09685).

    Args:
        model: of any family.
        rank: r.
        alpha: LoRA's alpha.
        dropout: before the LoRA.
        variant: "rslora" (Kalajdzievski 2023, arXiv 2312.03732) or "dora" (Liu et al. 2024, arXiv 2402.09353) for
            these; both are PEFT's.

    Raises:
        LoraTargetError: there is none.
    """
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=language_model_linears(model),
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
    )


def require_beside(variant: LoraVariant, is_rounded: bool) -> None:
    """Refuse to tune by DoRA where a change cannot go into the weights: it has no form in which it stays beside them.

    Args:
        variant: of the LoRA.
        is_rounded: whether the model is computed with in bfloat16, or its weights are held in few bits.

    Raises:
        LoraVariantError: names the remedy.
    """
    if variant == "dora" and is_rounded:
        raise LoraVariantError(
            "lora_variant: dora scales the rows of the weights, which in bfloat16 or in few bits would round its "
            "changes away; tune in float32 (dtype: float32, bf16: false, quantize: none), or by rslora"
        )


def inject_lora(model: Any, config: LoraConfig) -> None:
    """Put LoRA layers into a model in place, so that the parts beside them can be trained and saved with it.

    PEFT would freeze all other weights; which of them train is left to `freeze_all_but`.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    LoraModel(model, config, "default")
    for parameter in trained:
        parameter.requires_grad_(True)


def prepare_for_tuning(
    model: Any,
    rank: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    trainable: Collection[str] = TUNED,
    variant: LoraVariant = "plain",
) -> None:
    """Put LoRA on every linear layer of a model's language model, in place, and let train what tuning trains.

    Args:
        model: of any family.
        rank: of the LoRA.
        alpha: LoRA's alpha.
        dropout: before the LoRA.
        trainable: parts of parameter names that train; all others are frozen.
        variant: of the LoRA.

    Raises:
        LoraTargetError: the language model has no linear layer.
        QuantizationError: weights that are held in few bits are to train.
    """
    require_still(model, trainable)
    inject_lora(model, lora_config(model, rank, alpha, dropout, variant))
    freeze_all_but(model, tuple(trainable))


def lora_sizes(model: nn.Module) -> tuple[int, int]:
    """Return rank and alpha of the LoRA that `inject_lora` put into a model.

    Raises:
        LoraTargetError: there is none.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and "default" in module.r:
            return module.r["default"], module.lora_alpha["default"]
    raise LoraTargetError("the model has no LoRA to make part of it; call prepare_for_tuning before it is trained")


def lora_variant(model: nn.Module) -> LoraVariant:
    """Return the variant of the LoRA that `inject_lora` put into a model, "plain" where there is none."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and "default" in module.r:
            rank, alpha = module.r["default"], module.lora_alpha["default"]
            if "default" in module.lora_magnitude_vector:
                return "dora"
            is_stabilized = math.isclose(module.scaling["default"], alpha / math.sqrt(rank))
            return "rslora" if is_stabilized and rank > 1 else "plain"
    return "plain"


def transposed_layers(model: nn.Module) -> list[str]:
    """Return the names of layers whose weight is stored as (in, out): GPT-2's `Conv1D`, with or without LoRA."""
    return [name.removesuffix(".base_layer") for name, module in model.named_modules() if isinstance(module, Conv1D)]


def finish_lora(
    state: dict[str, Tensor],
    rank: int,
    alpha: int,
    in_float32: bool,
    transposed: Collection[str] = (),
    variant: LoraVariant = "plain",
) -> tuple[dict[str, Tensor], dict[str, int] | None]:
    """Make trained LoRA part of the model: W + s B A, without losing any of it.

    s is alpha / rank, of rsLoRA alpha / sqrt(rank). DoRA scales each row of the sum to the length that it learnt.

    Computed with in float32, weights take their change in. In bfloat16 the sum would be rounded, and small changes lost
    (of those a thousandth of the weights' spread, more than half), so there the change stays beside the weight, as
    `down` and `up` of a `LowRankLinear`, together with those of earlier stages.

    Works on a gathered state dict, so it is the same after any ZeRO stage.

    Args:
        state: parameters of a model with one injected adapter named `default`.
        rank: r.
        alpha: LoRA's alpha.
        in_float32: whether the model was computed with in float32, its weights not held in few bits.
        transposed: of `transposed_layers`.
        variant: of the LoRA.

    Returns:
        The state dict of the model without LoRA layers, and `EpoConfig.low_rank` of it, None where the weights took
        all of it in.

    Raises:
        LoraVariantError: DoRA was not computed with in float32.
    """
    require_beside(variant, not in_float32)
    finished = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    scale = alpha / math.sqrt(rank) if variant == "rslora" else alpha / rank
    end = ".lora_A.default.weight"
    for layer in [name.removesuffix(end) for name in state if name.endswith(end)]:
        down = state[f"{layer}{end}"].float()
        up = scale * state[f"{layer}.lora_B.default.weight"].float()
        weight, earlier = finished[f"{layer}.weight"], finished.get(f"{layer}.down")
        if variant == "dora":
            lengths = state[f"{layer}.lora_magnitude_vector.default.weight"]
            finished |= _with_lengths(finished, layer, up @ down, lengths, layer in transposed)
            continue
        if not up.any():  # was not among what trained
            continue
        if in_float32 and earlier is None:
            change = up @ down
            finished[f"{layer}.weight"] = weight + (change.T if layer in transposed else change)
            continue
        if earlier is not None:
            down = torch.cat([earlier.float(), down])
            up = torch.cat([finished[f"{layer}.up"].float(), up], dim=1)
        finished[f"{layer}.down"], finished[f"{layer}.up"] = down, up
    ranks = {name.removesuffix(".down"): len(tensor) for name, tensor in finished.items() if name.endswith(".down")}
    finished = {name: tensor.detach().cpu().contiguous() for name, tensor in finished.items()}
    return finished, None if in_float32 and not ranks else ranks


def _with_lengths(
    state: dict[str, Tensor], layer: str, change: Tensor, lengths: Tensor, is_transposed: bool
) -> dict[str, Tensor]:
    """Return a layer's weights after DoRA: W + change, each row scaled to a length (arXiv 2402.09353, equation 5).

    As PEFT has it, a low-rank change of earlier stages is scaled too, and does not count in what is scaled.

    Args:
        state: of the model.
        layer: its name.
        change: (out, in), float32.
        lengths: (out,).
        is_transposed: whether its weight is stored as (in, out).
    """
    weight = state[f"{layer}.weight"]
    sums = (weight.T if is_transposed else weight).float() + change
    scale = (lengths.float() / torch.linalg.norm(sums, dim=1)).unsqueeze(1)
    scaled = {f"{layer}.weight": (scale * sums).T if is_transposed else scale * sums}
    if f"{layer}.up" in state:
        scaled[f"{layer}.up"] = scale * state[f"{layer}.up"]
    return scaled


def num_trainable(model: nn.Module) -> tuple[int, int]:
    """Return trainable and all parameters."""
    sizes = [(size, parameter.requires_grad) for _, parameter, size in weight_sizes(model)]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def freeze_all_but(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Let train only parameters whose name contains one of `parts`, and of these none that was fixed before."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and any(part in name for part in parts))

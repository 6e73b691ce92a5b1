"""LoRA on the language model only: where it goes, and how trained adapters become part of the model."""

from typing import Any

import torch
from peft import LoraConfig, LoraModel
from torch import Tensor, nn


def language_model_linears(model: nn.Module) -> list[str]:
    """Return the full names of the linear layers inside the language model, the head left out.

    Full names, because a suffix such as `q_proj` would also catch the Whisper encoder's attention.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "model.language_model." in f"{name}."
    ]


def lora_config(model: nn.Module, rank: int, alpha: int, dropout: float) -> LoraConfig:
    """Return the LoRA of every linear layer of the language model (Hu et al. 2021, arXiv 2106.09685)."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=language_model_linears(model),
        task_type="CAUSAL_LM",
    )


def inject_lora(model: Any, config: LoraConfig) -> None:
    """Put LoRA layers into a model in place, so that the parts beside them can be trained and saved with it."""
    LoraModel(model, config, "default")


def finish_lora(
    state: dict[str, Tensor], rank: int, alpha: int, in_float32: bool
) -> tuple[dict[str, Tensor], dict[str, int] | None]:
    """Make trained LoRA part of the model: W + (alpha / rank) B A, without losing any of it.

    Computed with in float32, weights take their change in. In bfloat16 the sum would be rounded, and small changes lost
    (of those a thousandth of the weights' spread, more than half), so there the change stays beside the weight, as
    `down` and `up` of a `LowRankLinear`, together with those of earlier stages.

    Works on a gathered state dict, so it is the same after any ZeRO stage.

    Args:
        state: parameters of a model with one injected adapter named `default`.
        rank: r.
        alpha: LoRA's alpha.
        in_float32: whether the model was computed with in float32.

    Returns:
        The state dict of the model without LoRA layers, and `EpoConfig.low_rank` of it: None where the weights took
        all of it in.
    """
    finished = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in state.items()
        if ".lora_A." not in name and ".lora_B." not in name
    }
    end = ".lora_A.default.weight"
    for layer in [name.removesuffix(end) for name in state if name.endswith(end)]:
        down = state[f"{layer}{end}"].float()
        up = (alpha / rank) * state[f"{layer}.lora_B.default.weight"].float()
        weight, earlier = finished[f"{layer}.weight"], finished.get(f"{layer}.down")
        if not up.any():  # was not among what trained
            continue
        if in_float32 and earlier is None:
            finished[f"{layer}.weight"] = weight + up @ down
            continue
        if earlier is not None:
            down = torch.cat([earlier.float(), down])
            up = torch.cat([finished[f"{layer}.up"].float(), up], dim=1)
        finished[f"{layer}.down"], finished[f"{layer}.up"] = down, up
    ranks = {name.removesuffix(".down"): len(tensor) for name, tensor in finished.items() if name.endswith(".down")}
    finished = {name: tensor.detach().cpu().contiguous() for name, tensor in finished.items()}
    return finished, None if in_float32 and not ranks else ranks


def num_trainable(model: nn.Module) -> tuple[int, int]:
    """Return trainable and all parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def freeze_all_but(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Let train only parameters whose name contains one of `parts`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))

"""LoRA on the language model only: where it goes, and how trained adapters become plain weights again."""

from typing import Any

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
    """Put LoRA layers into a model in place, so that the parts beside them can be trained and saved with it.

    PEFT would freeze all other weights; which of them train is left to `freeze_all_but`.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    LoraModel(model, config, "default")
    for parameter in trained:
        parameter.requires_grad_(True)


def merge_lora(state: dict[str, Tensor], rank: int, alpha: int) -> dict[str, Tensor]:
    """Fold LoRA into the weights it adapts: W + (alpha / rank) B A.

    Works on a gathered state dict, so it is the same after any ZeRO stage.

    Args:
        state: parameters of a model with one injected adapter named `default`.
        rank: r.
        alpha: LoRA's alpha.

    Returns:
        The state dict of the model without LoRA layers.
    """
    merged = {}
    for name, tensor in state.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        prefix = name.removesuffix(".base_layer.weight")
        if prefix != name:
            down = state[f"{prefix}.lora_A.default.weight"].float()
            up = state[f"{prefix}.lora_B.default.weight"].float()
            tensor = (tensor.float() + (alpha / rank) * (up @ down)).to(tensor.dtype)
        merged[name.replace(".base_layer.", ".")] = tensor.detach().cpu().contiguous()
    return merged


def num_trainable(model: nn.Module) -> tuple[int, int]:
    """Return trainable and all parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def freeze_all_but(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Let train only parameters whose name contains one of `parts`; what is fixed, as Whisper's positions, stays so."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and any(part in name for part in parts))

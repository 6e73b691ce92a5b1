"""How a trained model or a part of it is written."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedConfig


def save_weights(config: PreTrainedConfig, state: dict[str, Any], folder: Path) -> None:
    """Write a config and safetensors that `from_pretrained` reads back; a tied head is not written twice."""
    config.save_pretrained(folder)
    if getattr(config, "tie_word_embeddings", False):
        state = {name: tensor for name, tensor in state.items() if not name.endswith("lm_head.weight")}
    save_torch_state_dict(state, folder)


def save_whole(config: PreTrainedConfig, state: dict[str, Any], folder: Path, processor: Any) -> None:
    """Write a whole model, as `epo.load_model` reads it; its config says bfloat16 where any of its weights is.

    Args:
        config: of the model; its dtype is set.
        state: of the whole model.
        folder: made where it is missing.
        processor: the model's.
    """
    config.dtype = "bfloat16" if any(tensor.dtype == torch.bfloat16 for tensor in state.values()) else "float32"
    save_weights(config, state, folder)
    processor.save_pretrained(folder)


__all__ = ["save_weights", "save_whole"]

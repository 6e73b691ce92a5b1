"""How a trained model or a part of it is written."""

from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedConfig


def save_weights(config: PreTrainedConfig, state: dict[str, Any], folder: Path) -> None:
    """Write a config and safetensors that `from_pretrained` reads back; a tied head is not written twice."""
    config.save_pretrained(folder)
    if getattr(config, "tie_word_embeddings", False):
        state = {name: tensor for name, tensor in state.items() if not name.endswith("lm_head.weight")}
    save_torch_state_dict(state, folder)


__all__ = ["save_weights"]

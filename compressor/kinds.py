"""Kinds of compressors: what makes memories of a history; the MambaCompressor, and what it is compared with."""

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from compressor.baselines.mean_pool import MeanPool
from compressor.baselines.transformer import TransformerCompressor
from compressor.baselines.truncation import Truncation
from compressor.modeling import MambaCompressor

KINDS: dict[str, type[MambaCompressor]] = {
    "mamba": MambaCompressor,
    "mean_pool": MeanPool,
    "transformer": TransformerCompressor,
    "truncate": Truncation,
}
"""By the name that recipes give them. Each reads `input_ids` with memory slots and returns a `Memory`."""

for _kind in KINDS.values():
    if _kind is not MambaCompressor:
        AutoConfig.register(_kind.config_class.model_type, _kind.config_class)
        AutoModel.register(_kind.config_class, _kind)


def compressor_class(config: PreTrainedConfig) -> type[MambaCompressor]:
    """Return the class of the compressors that a configuration is of."""
    return next(kind for kind in KINDS.values() if kind.config_class.model_type == config.model_type)


def learns(kind: str) -> bool:
    """Tell whether a kind has weights to train."""
    return kind != "truncate"


def take_words(compressor: MambaCompressor, words: Tensor) -> None:
    """Give a compressor that hands on the language model's own words their embeddings, in place; others go without.

    Args:
        compressor: of any kind.
        words: (V, D), as the language model reads them.
    """
    if isinstance(compressor, Truncation):
        with torch.no_grad():
            compressor.backbone.get_input_embeddings().weight.copy_(words)
        compressor.requires_grad_(False)


__all__ = ["KINDS", "compressor_class", "learns", "take_words"]

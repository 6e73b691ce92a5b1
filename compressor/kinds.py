"""Kinds of compressors: what makes memories of a history; the MambaCompressor, and what it is compared with."""

import copy
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from compressor.baselines.gist import Gist
from compressor.baselines.mean_pool import MeanPool
from compressor.baselines.transformer import TransformerCompressor
from compressor.baselines.truncation import Truncation
from compressor.language_model import embed_words
from compressor.modeling import MambaCompressor

KINDS: dict[str, type[MambaCompressor]] = {
    "gist": Gist,
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


def reads_llm_tokens(kind: str) -> bool:
    """Tell whether a kind reads the language model's own tokens; others have a tokenizer of their own."""
    return kind in ("gist", "truncate")


def sizes_of(kind: str, backbone: Any, llm_config: Any, num_words: int) -> dict[str, Any]:
    """Return the fields of a kind's configuration that say what its backbone is.

    Args:
        kind: of `KINDS`.
        backbone: configuration of a Mamba; a kind that is the language model itself does without.
        llm_config: of the language model.
        num_words: tokens that its table has.
    """
    if kind == "gist":
        return {"backbone_config": copy.deepcopy(llm_config.get_text_config())}
    words = {"num_words": num_words} if kind == "truncate" else {}
    return {"backbone_config": backbone, **words}


def take_over(compressor: MambaCompressor, llm: PreTrainedModel) -> None:
    """Give a compressor what its kind has of the language model, in place: its words, its weights, or nothing.

    Raises:
        CompressorDataError: the language model's weights are held in few bits, and they are wanted.
    """
    if isinstance(compressor, Gist):
        compressor.take_weights(llm)
    elif isinstance(compressor, Truncation):
        table = compressor.backbone.get_input_embeddings().weight
        with torch.no_grad():
            table.copy_(embed_words(llm, torch.arange(len(table))))
        compressor.hold_still()


__all__ = ["KINDS", "compressor_class", "learns", "reads_llm_tokens", "sizes_of", "take_over"]

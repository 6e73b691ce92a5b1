"""What scores of a reference, and encoded prompts, depend on, as digests: weights, precision, what is read of a pair.

Nothing else is in a key, so that another folder, learning rate, batch or order finds what is known.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from epo import ranks
from epo.data.dialogue import Clip
from epo.model.family import bare
from epo.training.collate import PairCollator
from epo.training.reference_cache import ReferenceCacheError

_VERSION = 1
"""Goes up where the same weights and the same batch would be scored otherwise than before."""

_UNHEARD = ("_name_or_path", "transformers_version", "architectures", "use_cache")
"""Of a configuration, what changes no score."""

_OF_REPLIES = ("input_ids", "attention_mask", "completion_mask")
"""Of a batch, what tells of its replies too."""


def reference_digest(policy: nn.Module, mixed_precision: str) -> str:
    """Return the digest of a policy's reference, its weights without the LoRA in training, and of how it computes.

    Args:
        policy: with or without PEFT around it; TRL's copy of an earlier LoRA, called "ref", belongs to the reference.
        mixed_precision: as accelerate calls it.

    Raises:
        ReferenceCacheError: the weights are spread over ranks already.
    """
    model = bare(policy)
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ReferenceCacheError(
            "reference_cache: the model's weights are spread over the ranks already, and cannot be told from others; "
            "load it whole (compressor.seams.load_models_whole), or leave reference_cache out"
        )
    named = sorted(_reference_weights(model))
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing leaves Python's lock free
        digests = list(pool.map(_tensor_digest, (tensor for _, tensor in named)))
    config = {key: value for key, value in model.config.to_dict().items() if key not in _UNHEARD}
    products = (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
    return _digest(
        _VERSION, transformers.__version__, mixed_precision, products, config, [name for name, _ in named], digests
    )


def pair_key(batch: dict[str, Tensor], clip: Clip | None, max_prompt_tokens: int | None) -> bytes:
    """Return the SHA-256 of all that a reference reads of one pair, 32 bytes.

    Args:
        batch: of `PairCollator`, of this pair alone: tokens, histories, features of clips.
        clip: whose files count by their bytes besides, whatever is read of them.
        max_prompt_tokens: of the processor.
    """
    tensors = {name: _tensor_digest(tensor) for name, tensor in batch.items()}
    files = [] if clip is None else [_file_digest(path) for path in (clip.audio, clip.video)]
    span = None if clip is None else (clip.start_s, clip.end_s)
    return bytes.fromhex(_digest(tensors, files, span, max_prompt_tokens))


def prompt_key(batch: dict[str, Tensor]) -> bytes:
    """Return the SHA-256 of all that is encoded for one pair's prompt, and of the prompt, 32 bytes.

    Args:
        batch: of `PairCollator`, of this pair alone.
    """
    prompt = batch["input_ids"][0, : int(batch["prompt_lengths"])]
    encoded = {name: tensor for name, tensor in batch.items() if name not in _OF_REPLIES}
    return bytes.fromhex(
        _digest({name: _tensor_digest(tensor) for name, tensor in encoded.items()}, _tensor_digest(prompt))
    )


class PairKeys:
    """The keys of all pairs of a collator, of their prompts, or both; found on first use, each rank its share."""

    def __init__(self, collate: PairCollator, pairs: bool = True, prompts: bool = False) -> None:
        """Look at nothing yet.

        Args:
            collate: makes batches of pairs, as long as `keep` has not changed them.
            pairs: whether keys of pairs will be asked for.
            prompts: whether those of prompts.
        """
        self._collate, self._wants_pairs, self._wants_prompts = collate, pairs, prompts

    def of_pairs(self) -> list[bytes]:
        """Return the key of each pair, `pair_key`. Every rank must ask."""
        return [pair for pair, _ in self._both]

    def of_prompts(self) -> list[bytes]:
        """Return the key of each pair's prompt, `prompt_key`. Every rank must ask."""
        return [prompt for _, prompt in self._both]

    @cached_property
    def _both(self) -> list[tuple[bytes, bytes]]:
        return ranks.gather_shares([self._of(i) for i in ranks.share(range(len(self._collate.pairs)))])

    def _of(self, index: int) -> tuple[bytes, bytes]:
        batch, clip = self._collate([{"index": index}]), self._collate.pairs[index].reply.current.clip
        limit = getattr(self._collate.processor, "max_prompt_tokens", None)
        return (
            pair_key(batch, clip, limit) if self._wants_pairs else b"",
            prompt_key(batch) if self._wants_prompts else b"",
        )


def _reference_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if ".lora_" not in name or ".ref." in name or name.endswith(".ref"):
            yield name.replace(".base_layer.", "."), tensor


def _tensor_digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{content.dtype} {tuple(content.shape)} ".encode())
    digest.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _file_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


__all__ = ["PairKeys", "pair_key", "prompt_key", "reference_digest"]

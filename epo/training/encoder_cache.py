"""What encoders and compressor make of prompts, on disk: shards of prompts' ids and vectors, whole or not there."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from epo.training.content_shards import read_shards, write_shard


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt, and what the model made of its memories and its clip.

    Attributes:
        ids: int64 (T,), with placeholders.
        kinds: int64 (N,), the placeholders in their order.
        vectors: (N, D), what stands there, in the language model's embedding space.
    """

    ids: Tensor
    kinds: Tensor
    vectors: Tensor

    @property
    def num_bytes(self) -> int:
        """How much it takes."""
        return sum(t.numel() * t.element_size() for t in (self.ids, self.kinds, self.vectors))


Places = dict[bytes, Path]
"""By the key of a prompt, the shard that holds it."""


class EncoderCacheError(ValueError):
    """Encoded prompts that cannot be kept, or not found again; says why and what to do."""


class EncoderCache:
    """A folder of shards, one folder below it for each state of the weights; runs and ranks may share it.

    A shard is a safetensors file with the three tensors of each prompt, named `HEX.ids` and so on, HEX being its key.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def load(self, weights: str) -> tuple[Places, list[Path]]:
        """Return where each prompt lies, and the shards that were damaged; these are deleted.

        Args:
            weights: digest of the model's weights, in hexadecimal.

        Raises:
            EncoderCacheError: the folder is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise EncoderCacheError(f"encoder_cache: {self.folder} is a file, want a folder; name another path")
        shards, damaged = read_shards(self._place(weights), _keys)
        return {key: path for path, keys in shards for key in keys}, damaged

    def add(self, weights: str, prompts: Mapping[bytes, EncodedPrompt]) -> Places:
        """Write a shard of prompts by their keys, and return where they lie."""
        tensors = {
            f"{key.hex()}.{field.name}": getattr(prompt, field.name).cpu().contiguous()
            for key, prompt in prompts.items()
            for field in fields(prompt)
        }
        return dict.fromkeys(prompts, write_shard(self._place(weights), save(tensors)))

    def _place(self, weights: str) -> Path:
        """Not the folder in which a `ReferenceCache` of the same path would take these shards for damaged ones."""
        return self.folder / f"{weights}-prompts"


def read_prompt(path: Path, key: bytes) -> EncodedPrompt:
    """Return a prompt that lies in a shard.

    Raises:
        EncoderCacheError: the shard is not there any more, or not seen from this machine.
    """
    try:
        shard = _opened(path)
        return EncodedPrompt(*(shard.get_tensor(f"{key.hex()}.{field.name}") for field in fields(EncodedPrompt)))
    except (OSError, SafetensorError) as error:
        raise EncoderCacheError(
            f"encoder_cache: {path} cannot be read ({error}); leave the folder alone while a run reads it, and put it "
            "where all machines of the run see it"
        ) from error


@lru_cache(maxsize=256)
def _opened(path: Path) -> Any:
    """Map a shard into memory; what is not read of it takes none."""
    return safe_open(path, framework="pt")


def _keys(path: Path) -> list[bytes] | None:
    """Return the keys of the prompts in a shard, None where something else is in it."""
    try:
        with safe_open(path, framework="pt") as shard:
            names = set(shard.keys())
        keys = [name.removesuffix(".ids") for name in names if name.endswith(".ids")]
        wanted = {f"{key}.{field.name}" for key in keys for field in fields(EncodedPrompt)}
        return [bytes.fromhex(key) for key in keys] if names == wanted else None
    except (SafetensorError, ValueError):
        return None


__all__ = ["EncodedPrompt", "EncoderCache", "EncoderCacheError", "Places", "read_prompt"]

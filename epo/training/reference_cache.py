"""What a reference says of pairs, on disk: shards of keys and log-probabilities that are whole or count for nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from epo.training.content_shards import read_shards, write_shard

Numbers = dict[bytes, tuple[float, float]]
"""By the key of a pair, the log-probabilities of its chosen and its rejected reply, in nats."""


class ReferenceCacheError(ValueError):
    """A reference whose numbers cannot be kept, or not found again; says why and what to do."""


class ReferenceCache:
    """A folder of shards, one folder below it for each reference; runs and ranks may share it.

    A shard is a safetensors file with `keys`, uint8 (N, 32), and `logps`, float32 (N, 2), and is named by the SHA-256
    of its bytes, under which it appears at once: half a shard, or a damaged one, does not bear its own name.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def load(self, reference: str) -> tuple[Numbers, list[Path]]:
        """Return what is known of a reference, and the shards that were damaged; these are deleted.

        Args:
            reference: its digest, in hexadecimal.

        Raises:
            ReferenceCacheError: the folder is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ReferenceCacheError(f"reference_cache: {self.folder} is a file, want a folder; name another path")
        shards, damaged = read_shards(self.folder / reference, _read)
        return {key: numbers for _, shard in shards for key, numbers in shard.items()}, damaged

    def add(self, reference: str, numbers: Mapping[bytes, tuple[float, float]]) -> None:
        """Write a shard; it is on disk whole before this returns."""
        keys = np.frombuffer(b"".join(numbers), dtype=np.uint8).reshape(len(numbers), 32)
        logps = np.array(list(numbers.values()), dtype=np.float32)
        write_shard(self.folder / reference, save({"keys": keys, "logps": logps}))


def _read(path: Path) -> Numbers | None:
    """Return the numbers of a shard, None where something else is in it."""
    try:
        shard = load_file(path)
        keys, logps = shard["keys"], shard["logps"]
    except (SafetensorError, KeyError):
        return None
    if keys.shape != (len(logps), 32) or logps.shape != (len(logps), 2) or not np.isfinite(logps).all():
        return None
    return {
        key.tobytes(): (float(chosen), float(rejected)) for key, (chosen, rejected) in zip(keys, logps, strict=True)
    }


__all__ = ["Numbers", "ReferenceCache", "ReferenceCacheError"]

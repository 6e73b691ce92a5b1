"""Files that bear the SHA-256 of their bytes as their name: whole, or not there; half of one does not bear its name."""

import hashlib
import os
import uuid
from pathlib import Path

SUFFIX = ".safetensors"


def write_shard(folder: Path, content: bytes) -> Path:
    """Write a file that appears at once; it is on disk whole before its path is returned."""
    path = folder / f"{hashlib.sha256(content).hexdigest()}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def is_whole(path: Path) -> bool:
    """Return whether a file's bytes are those that its name promises."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name.removesuffix(SUFFIX)


__all__ = ["SUFFIX", "is_whole", "write_shard"]

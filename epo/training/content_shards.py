"""Files that bear the SHA-256 of their bytes as their name: whole, or not there; half of one does not bear its name."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

SUFFIX = ".safetensors"

Content = TypeVar("Content")


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


def read_shards(folder: Path, read: Callable[[Path], Content | None]) -> tuple[list[tuple[Path, Content]], list[Path]]:
    """Return the shards of a folder with what they hold, by name, and those that were damaged; these are deleted.

    Args:
        folder: need not be there.
        read: takes a file whose bytes are whole to what it holds, None where that is something else.
    """
    sound, damaged = [], []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        content = read(path) if _is_whole(path) else None
        if content is None:
            damaged.append(path)
            path.unlink(missing_ok=True)
        else:
            sound.append((path, content))
    return sound, damaged


def _is_whole(path: Path) -> bool:
    """Return whether a file's bytes are those that its name promises."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name.removesuffix(SUFFIX)


__all__ = ["SUFFIX", "read_shards", "write_shard"]

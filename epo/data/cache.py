"""Keep what is computed from a clip, keyed by the clip's content, so that epochs and stages do not decode again."""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from epo.data.dialogue import Clip


class ClipCache:
    """A folder of safetensors files, one for each clip and way of processing it; several processes may share it."""

    def __init__(self, folder: Path | None) -> None:
        """Keep entries below `folder`, made when first needed; None keeps nothing."""
        self._folder = folder
        self._digests: dict[tuple[Path, int, int], str] = {}

    @property
    def is_kept(self) -> bool:
        """Whether there is a folder, so that what is made once is found again."""
        return self._folder is not None

    def load(self, clip: Clip, settings: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays kept for a clip, or make and keep them.

        A damaged entry is made anew.

        Args:
            clip: the key is its files' contents and its span, not their names.
            settings: names all else the arrays depend on, such as limits and processor settings.
            make: computes the arrays.
        """
        if self._folder is None:
            return make()
        key = self._key(clip, settings)
        entry = self._folder / key[:2] / f"{key}.safetensors"
        try:
            return load_file(entry)
        except (FileNotFoundError, SafetensorError):
            arrays = make()
            _write(entry, arrays)
            return arrays

    def _key(self, clip: Clip, settings: str) -> str:
        files = [None if path is None else self._digest(path) for path in (clip.audio, clip.video)]
        parts = json.dumps([*files, clip.start_s, clip.end_s, settings])
        return hashlib.sha256(parts.encode()).hexdigest()

    def _digest(self, path: Path) -> str:
        """SHA-256 of a file's contents, computed once a process unless the file's size or time changes."""
        status = path.stat()
        known = (path, status.st_size, status.st_mtime_ns)
        if known not in self._digests:
            with path.open("rb") as file:
                self._digests[known] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[known]


def _write(entry: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write under a name of its own, then take the entry's place at once, so no reader sees half a file."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}.partial")
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
        os.replace(partial, entry)
    finally:
        partial.unlink(missing_ok=True)

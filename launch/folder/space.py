"""Free space: a run that would fill the disk in its third hour is refused before its first step."""

import shutil
from pathlib import Path

from launch.recipe import RecipeError


def require_space(folder: Path, num_bytes: int) -> None:
    """Refuse a folder on a file system with less free space than a run writes. A user's quota cannot be seen here.

    Raises:
        RecipeError: names the folder, what is free and what is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise RecipeError(
            f"{folder}: {_size(free)} are free, and this run writes up to {_size(num_bytes)} of checkpoints "
            "and weights; free some space, lower save_total_limit, or set output_dir on another file system"
        )


def _size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"

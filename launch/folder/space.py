"""Free space: a run that would fill the disk in its third hour is refused before its first step."""

import shutil
from pathlib import Path
from typing import Any

from launch.recipe import RecipeError


def require_space(folder: Path, num_bytes: int) -> None:
    """Refuse a folder on a file system with less free space than a run writes. A user's quota cannot be seen here.

    Raises:
        RecipeError: names the folder, what is free and what is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise RecipeError(
            f"{folder}: {size_text(free)} are free, and this run writes up to {size_text(num_bytes)} of checkpoints "
            "and weights; free some space, lower save_total_limit, or set output_dir on another file system"
        )


def bytes_to_write(args: Any, weights: int, trained: int) -> int:
    """Return about how much a run writes: its weights, and checkpoints of them with AdamW's state, one more than kept.

    A weight that trains takes its two moments and, where weights are bfloat16 or sharded, a float32 copy: 12 bytes.

    Args:
        args: has the keys of transformers' TrainingArguments.
        weights: bytes of all weights.
        trained: how many parameters train.
    """
    num_saves = args.max_steps // max(int(args.save_steps), 1) if args.save_strategy == "steps" else 1
    num_kept: int = min(num_saves, (args.save_total_limit or num_saves) + 1)
    return num_kept * (weights + 12 * trained) + weights


def size_text(num_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"

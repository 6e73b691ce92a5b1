"""What every stage shares: how it starts, how a user's mistake ends it, and how it says that it is done."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compressor import seams
from launch.recipe import RecipeError, comparable

# Before trl or transformers are imported by a stage: neither may phone home from a training job.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_DONE = "stage.json"


def main(run: Callable[[], None]) -> None:
    """Run a stage; print a user's mistake as one line and exit 2, anything else with its traceback and exit 1.

    Every `ValueError` of the project's own classes is the user's: its message says where and what to do.
    """
    seams.skip_unused_operator()
    seams.silence_renames()
    try:
        run()
    except ValueError as error:
        if not is_user_error(error):
            traceback.print_exc()
            _exit(1)
        print(f"error: {error}", file=sys.stderr)
        _exit(2)
    except Exception:
        traceback.print_exc()
        _exit(1)


def is_user_error(error: ValueError) -> bool:
    """Tell whether an error is one of the project's own classes, whose messages are written for the user."""
    return isinstance(error, RecipeError) or type(error).__module__.split(".")[0] in (
        "epo",
        "compressor",
        "launch",
    )


def is_done(output_dir: Path, resolved: dict[str, Any]) -> bool:
    """Tell whether `output_dir` holds the finished result of this very recipe."""
    path = output_dir / _DONE
    return path.is_file() and json.loads(path.read_text()).get("recipe") == comparable(resolved)


def mark_done(output_dir: Path, resolved: dict[str, Any], results: dict[str, Any]) -> None:
    """Write `stage.json`, the last file of a stage: the recipe it ran and its headline results."""
    partial = output_dir / (_DONE + ".partial")
    partial.write_text(json.dumps({"recipe": comparable(resolved), "results": results}, indent=2, default=str) + "\n")
    partial.replace(output_dir / _DONE)


def rank() -> int:
    """Return this process's rank in the job, 0 outside of one."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """Return the number of processes in the job, 1 outside of one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _exit(code: int) -> None:
    """Leave at once: a rank that waited for its peers' clean-up would hang where they are waiting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

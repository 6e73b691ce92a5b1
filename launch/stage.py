"""What every stage shares: its place among the ranks, how it starts and how it ends."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from compressor import seams
from launch.processes import ends
from launch.processes.credentials import guard_streams
from launch.processes.ends import is_user_error as is_user_error  # part of what a stage offers to those who run it
from launch.processes.orphan import end_with_launcher
from launch.processes.quiet import settle_console
from launch.processes.tested_versions import warn_untested

# Before trl or transformers are imported by a stage: neither may phone home from a training job.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


DRY_RUN = "--dry_run"
"""Flag of every stage: show what it would find and need, and do nothing else."""


def main(run: Callable[[], None], is_stage: bool = True) -> None:
    """Run a stage; print a user's mistake as one line and exit 2, anything else with its traceback and exit 1.

    Args:
        run: reads the command line and does the work.
        is_stage: whether this is a script of launch/, whose name says what `--dry_run` is about.
    """
    guard_streams()
    warn_untested()
    settle_console()
    seams.skip_unused_operator()
    end_with_launcher()
    try:
        if is_stage and DRY_RUN in sys.argv[1:]:
            from launch.doctor import dry_run

            dry_run(Path(sys.argv[0]).stem, sys.argv[1:])
        else:
            run()
    except SystemExit as end:
        _spare_teardown(end.code)
        raise
    except Exception as error:
        ends.leave(ends.report(error, rank()))
    else:
        _spare_teardown(None)


def _spare_teardown(code: object) -> None:
    if num_ranks() > 1:
        ends.spare_teardown(code)


def rank() -> int:
    """Return this process's rank in the job, 0 outside of one."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """Return the number of processes in the job, 1 outside of one."""
    return int(os.environ.get("WORLD_SIZE", "1"))

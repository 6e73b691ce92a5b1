"""One import for all ranks: torch's launcher forks them from a process that has loaded what they need.

Importing torch, transformers and DeepSpeed costs a rank some seconds of a core, and most of the start of a stage where
ranks share two cores. torch's launcher can start its ranks by Python's fork server, told so by the environment
variables that stand for `--start-method` and `--run-path`; the server then imports once, and each fork has it all.
"""

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

SCRIPT_MODULE = "EPO_SCRIPT_MODULE"
"""Environment variable by which the fork server is told which script's imports the ranks need."""

_CHOICE = {"PET_START_METHOD": "forkserver", "PET_RUN_PATH": "1"}


def share_imports(argv: Sequence[str]) -> None:
    """Let the launcher with these arguments fork its ranks, where it starts a script of this folder on CPUs.

    On GPUs every rank imports for itself, on a core of its own: a process that has looked at a GPU may not be forked.
    `EPO_SHARED_START=0` keeps it so everywhere. Options by which a user starts ranks in another way are left alone.
    """
    import torch  # inside `import torch` of a launcher, which calls this at its end

    scripts = [argument for argument in argv if argument.endswith(".py")]
    is_other_way = bool(
        {"-m", "--module", "--no_python", "--no-python"} & set(argv) or _CHOICE.keys() & os.environ.keys()
    )
    is_refused = os.environ.get("EPO_SHARED_START") == "0"
    if not scripts or is_other_way or is_refused or torch.cuda.is_available():
        return
    os.environ.update(_CHOICE)
    os.environ[SCRIPT_MODULE] = f"launch.{Path(scripts[0]).stem}"
    multiprocessing.set_forkserver_preload(["__main__", "launch.processes.fork_server"])

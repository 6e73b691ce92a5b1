"""What the process does that ranks are forked from, see shared_start.py: all that it loads, every rank has.

It stands apart from the launcher's session, so that Ctrl-C and a signal to the whole group reach the launcher alone,
which ends its ranks in order; it lives through a SIGTERM that Slurm sends to every process of a job, since its end
would interrupt theirs; and it ends with the launcher, whereupon ranks that are left end too.
"""

import ctypes
import gc
import importlib
import os
import signal

from compressor import seams
from launch.processes.quiet import settle_console
from launch.processes.shared_start import SCRIPT_MODULE

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def _prepare() -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.register_at_fork(after_in_child=_heed_sigterm)
    settle_console()
    gc.disable()  # imports make a million objects and hardly any waste
    seams.skip_unused_operator()
    # Python runs the main module of the launcher in every rank too; the second is what that one imports.
    for name in ("launch.stage", "accelerate.commands.config", os.environ[SCRIPT_MODULE]):
        importlib.import_module(name)
    gc.freeze()  # no collection of a rank's looks at them again, which would also copy their memory
    gc.enable()


def _heed_sigterm() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if SCRIPT_MODULE in os.environ:  # Python's fork server offers no other call than an import
    _prepare()

"""A process and all it started: how much memory they hold together, and how to signal or end them."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil

MEMORY_MEASURE = (
    "Peak memory: the largest sum over the driver and all processes of a stage, sampled every few seconds, of the "
    "proportional set size (PSS), in which a page shared by n processes counts 1/n in each; the unique set size "
    "(USS) where the system tells no PSS."
)

_SHARE_OF_TIME = 0.03  # that sampling may take


def tree_memory_mib(root_pid: int) -> float:
    """Return the memory of a process and everything below it, in MiB of PSS (USS where there is no PSS)."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(root_pid)
        return sum(_memory_bytes(process) for process in [root, *root.children(recursive=True)]) / 2**20
    return 0.0


class PeakMemory:
    """Samples the memory of this process and everything below it, in a thread, and keeps the largest sum."""

    def __init__(self, interval_s: float = 1.0) -> None:
        """Prepare a sampler that measures every `interval_s` seconds, less often where measuring itself takes long."""
        self.peak_mib = 0.0
        self._interval_s = interval_s
        self._is_over = threading.Event()

    @contextlib.contextmanager
    def sampling(self) -> Iterator["PeakMemory"]:
        """Sample while the block runs, at least once."""
        thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()

    def _sample(self) -> None:
        while True:
            start_s = time.monotonic()
            self.peak_mib = max(self.peak_mib, tree_memory_mib(os.getpid()))
            # Adding up the pages of large processes takes a tenth of a second, and holds them up meanwhile.
            pause_s = max(self._interval_s, (time.monotonic() - start_s) / _SHARE_OF_TIME)
            if self._is_over.wait(pause_s):
                return


def kill_tree(root_pid: int) -> None:
    """Kill a process and everything below it; ranks are in sessions of their own, so a group does not reach them."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(root_pid)
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)


def _memory_bytes(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
    except psutil.Error:  # it ended meanwhile, or belongs to another user
        return 0
    return int(getattr(info, "pss", info.uss))

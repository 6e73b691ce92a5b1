"""Ends a process whose launcher or pipeline driver is gone, so that no rank trains on unseen."""

import os
import signal
import threading
import time

import psutil

DRIVER_PID = "EPO_DRIVER_PID"
"""Environment variable by which the pipeline driver tells the processes below it who it is."""

_LOOK_S = 1.0
_PATIENCE_S = 30.0  # what torch's launcher gives its ranks too
# Set for each process by torch's launcher and by accelerate's plain one.
_LAUNCHED = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION")


def end_with_launcher() -> None:
    """Watch, in a thread, the launcher and the driver above this process; end as by SIGTERM when one is gone.

    A process that a user started by hand has neither: it may outlive its terminal, as under `nohup`.
    """
    above = [os.getppid()] if any(name in os.environ for name in _LAUNCHED) else []
    driver = os.environ.get(DRIVER_PID, "")
    above += [int(driver)] if driver.isdigit() else []
    if above:
        watched = [psutil.Process(pid) if psutil.pid_exists(pid) else None for pid in above]
        threading.Thread(target=_watch, args=(watched,), name="orphan-watch", daemon=True).start()


def _watch(above: list[psutil.Process | None]) -> None:
    while all(process is not None and _lives(process) for process in above):
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)  # for an orderly end; a rank that waits for others never comes to it
    os._exit(128 + signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

"""What tracking costs the training thread: `python benchmarks/tracking.py`. A local store, a dead and a silent server.

It prints the seconds until a run is open, the microseconds of CPU and of waiting that a log of ten metrics costs while
steps of 50 ms go on beside it, and the seconds of the end.
"""

import logging
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

from launch.tracking import open_run

LOGS, STEP_S = 100, 0.05


def measure(name: str, uri: str | None, folder: Path) -> None:
    """Log as a trainer would, and print a line of a table."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    start_s = time.monotonic()
    waits, cpus = [], []
    with open_run("bench", name, "bench", folder / "runs" / name, {"beta": 0.2}) as run:
        opened_s = time.monotonic()
        for step in range(LOGS):
            wall_s, cpu_s = time.perf_counter(), time.thread_time()
            run.log_metrics({f"metric/{number}": step + 0.5 for number in range(10)}, step)
            waits.append(time.perf_counter() - wall_s)
            cpus.append(time.thread_time() - cpu_s)
            time.sleep(STEP_S)
        trained_s = time.monotonic()
    ended_s = time.monotonic()
    wait_s, cpu_s = statistics.median(waits), statistics.median(cpus)
    print(
        f"| {name} | {opened_s - start_s:.2f} | {1e6 * cpu_s:.0f} | {1e6 * wait_s:.0f} | "
        f"{100 * wait_s / STEP_S:.2f} % | {max(waits):.3f} | {ended_s - trained_s:.1f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    import mlflow  # noqa: F401  its import is not what is measured

    print("| store | open, s | CPU a log, us | wait a log, us | share of 50 ms | longest, s | end, s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as silent:
        measure("local file", None, Path(folder))
        measure("nobody listens", "http://127.0.0.1:1", Path(folder))
        measure("silent", f"http://127.0.0.1:{silent.getsockname()[1]}", Path(folder))


if __name__ == "__main__":
    main()

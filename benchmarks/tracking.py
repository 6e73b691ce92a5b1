"""What tracking costs the training thread: `python benchmarks/tracking.py`. A local store, a dead and a silent server.

It prints the seconds until a run is open, the microseconds of CPU and of waiting that one log of ten metrics costs, while
steps of 50 ms go on beside it, and the seconds of the end.
"""

import logging
import os
import socket
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
    share = 100 * sum(waits) / (LOGS * STEP_S)
    print(
        f"| {name} | {opened_s - start_s:.2f} | {1e6 * sum(cpus) / LOGS:.0f} | {1e6 * sum(waits) / LOGS:.0f} | "
        f"{share:.2f} % | {ended_s - trained_s:.1f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    import mlflow  # noqa: F401  its import is not what is measured

    print("| store | open, s | CPU a log, us | wait a log, us | share of 50 ms | end, s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as silent:
        measure("local file", None, Path(folder))
        measure("nobody listens", "http://127.0.0.1:1", Path(folder))
        measure("silent", f"http://127.0.0.1:{silent.getsockname()[1]}", Path(folder))


if __name__ == "__main__":
    main()

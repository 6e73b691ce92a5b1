"""Isolation: run a function over jobs in worker processes of which any may die or hang, and name the job that did it.

A damaged file can end a decoder's whole process; here that costs one worker, which is replaced, and not the run.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_LIMIT_S = 120.0
_JOBS_AHEAD = 2  # a worker begins its next job while its last result is dealt with


@dataclass(frozen=True)
class Crash:
    """What a job did to its worker, in words that follow the job's name: "ended the process (SIGSEGV)"."""

    reason: str


def isolated_map(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, limit_s: float = _LIMIT_S
) -> Iterator[tuple[Job, Result | Crash]]:
    """Yield (job, result) as results come.

    Args:
        function: importable by name, as are jobs and results; it should return faults, not raise them.
        jobs: read only a few ahead of the workers, so memory does not grow with them.
        workers: processes, at least 1; they start when first needed.
        limit_s: a job that takes longer is given up and its worker killed.

    Raises:
        RuntimeError: `function` raised; that is our mistake, not the job's.
    """
    pool = [_Worker(function) for _ in range(max(1, workers))]
    try:
        waiting = iter(jobs)
        for _ in range(_JOBS_AHEAD):
            for worker in pool:
                worker.take_next(waiting)
        while busy := [worker for worker in pool if worker.jobs]:
            for worker in _ready(busy, limit_s):
                yield worker.collect(limit_s)
                worker.take_next(waiting)
    finally:
        for worker in pool:
            worker.stop()


class _Worker(Generic[Job, Result]):
    """One process and the jobs it has, which it does in order; started at its first job, and anew after it died."""

    def __init__(self, function: Callable[[Job], Result]) -> None:
        self._function = function
        self._process: Any = None
        self.connection: Connection | None = None
        self.jobs: deque[Job] = deque()
        self._since_s = 0.0  # when the first of its jobs began

    def take_next(self, jobs: Iterator[Job]) -> None:
        for job in jobs:
            if not self.jobs:
                self._since_s = time.monotonic()
            self.jobs.append(job)
            self._send(job)
            return

    def seconds_left(self, limit_s: float) -> float:
        return max(0.0, self._since_s + limit_s - time.monotonic())

    def collect(self, limit_s: float) -> tuple[Job, Result | Crash]:
        """Return the first job and what became of it: its result, or how it ended the worker."""
        assert self.connection is not None
        if not self.connection.poll():
            return self._give_up(f"took more than {limit_s:g} s")
        try:
            failed, result = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return self._give_up(f"ended the process ({_exit_words(self._process.exitcode)})")
        job = self.jobs.popleft()
        self._since_s = time.monotonic()
        if failed:
            raise RuntimeError(f"{self._function} failed on {job}:\n{result}")
        return job, result

    def stop(self) -> None:
        if self._process is None:
            return
        assert self.connection is not None
        if self.jobs:
            self._process.kill()
        self.connection.close()  # an idle worker ends when its pipe does
        self._process.join()
        self._process, self.connection = None, None

    def _give_up(self, reason: str) -> tuple[Job, Crash]:
        """Blame the first job, which the worker was at, and give the others to a new process."""
        self.stop()
        job = self.jobs.popleft()
        self._since_s = time.monotonic()
        for other in self.jobs:
            self._send(other)
        return job, Crash(reason)

    def _send(self, job: Job) -> None:
        if self.connection is None:
            self._start()
        assert self.connection is not None
        try:
            self.connection.send(job)
        except BrokenPipeError:  # it died: `collect` will say so, and send anew what it had not begun
            pass

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of whatever is loaded
        self.connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, self._function), daemon=True)
        self._process.start()
        theirs.close()


def _ready(busy: list[Any], limit_s: float) -> list[Any]:
    """Wait until some worker has answered, died, or had its time; return those."""
    timeout_s = min(worker.seconds_left(limit_s) for worker in busy)
    answered = wait([worker.connection for worker in busy], timeout_s)
    return [worker for worker in busy if worker.connection in answered or worker.seconds_left(limit_s) == 0]


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Answer jobs until the other end closes; what `function` raises goes back as text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: tuple[bool, Any] = (False, function(job))
        except Exception:
            import traceback

            answer = (True, traceback.format_exc())
        try:
            connection.send(answer)
        except BrokenPipeError:
            return


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["Crash", "isolated_map", "usable_cores"]

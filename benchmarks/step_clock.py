"""Trainers that step in turn, so that whatever else a machine does falls on all alike, and how long each step took."""

import statistics
import threading
import time
from typing import Any

from transformers import TrainerCallback


class _Turns(TrainerCallback):
    """Lets a trainer step when it is its turn, and keeps the seconds of each step: the wall's, and the processor's."""

    def __init__(self, table: "Rounds", seat: int) -> None:
        self._table, self._seat = table, seat
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._table.wait_for(self._seat)
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        self.cpu_seconds.append(time.process_time() - self._cpu_start)
        self._table.pass_on()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.gradient_norms.append(float(logs["grad_norm"]))


class Rounds:
    """Some trainers, each in a thread of its own, of which one steps at a time; all take as many steps."""

    def __init__(self, trainers: dict[str, Any]) -> None:
        self._trainers = trainers
        self._turn, self._changed = 0, threading.Condition()
        self._failure: BaseException | None = None
        self.clocks = {name: _Turns(self, seat) for seat, name in enumerate(trainers)}

    def wait_for(self, seat: int) -> None:
        """Wait until it is a trainer's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == seat or self._failure is not None)
            if self._failure is not None:
                raise RuntimeError("another trainer failed")

    def pass_on(self) -> None:
        """Let the next one step."""
        with self._changed:
            self._turn = (self._turn + 1) % len(self._trainers)
            self._changed.notify_all()

    def run(self) -> dict[str, _Turns]:
        """Train all of them, and return their clocks by name.

        What a trainer does between its steps (a log line, the next batch) falls into the next one's step, and is a
        thousandth of it.
        """
        threads = [threading.Thread(target=self._train, args=(name,)) for name in self._trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        return self.clocks

    def _train(self, name: str) -> None:
        trainer = self._trainers[name]
        trainer.add_callback(self.clocks[name])
        try:
            trainer.train()
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()


def ratio(slow: list[float], fast: list[float], warm_up: int = 1) -> dict[str, float]:
    """Return by how much the one is faster: the ratio of medians, and the least and largest of the rounds' ratios."""
    rounds = [a / b for a, b in zip(slow[warm_up:], fast[warm_up:], strict=True)]
    median = statistics.median(slow[warm_up:]) / statistics.median(fast[warm_up:])
    return {"median": median, "least": min(rounds), "largest": max(rounds)}


__all__ = ["Rounds", "ratio"]

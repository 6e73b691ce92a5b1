"""One MLflow run as a stage sees it: what it is given goes into a journal, and a thread of its own sends that."""

import math
import numbers
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.processes.credentials import redact, redact_mapping
from launch.tracking_delivery import Delivery, DeliveryError, OpenedRun, warn
from launch.tracking_journal import Journal

if TYPE_CHECKING:
    from transformers import TrainerCallback

_MAX_PARAM_CHARS = 6000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 600.0
_GATHER_S = 2.0  # metrics of this long are sent together
# How long a stage waits for a run's id, and at its end for what is left to send. A store in a file is no server that
# may be silent: it is waited for.
_WAIT_FOR_SERVER_S, _LAST_WAIT_FOR_SERVER_S, _WAIT_FOR_FILE_S = 2.0, 10.0, 120.0


class TrackedRun:
    """A run that numbers, settings and files are logged to; made without a way to open it, it does nothing.

    No method raises, and none waits for the store but `finish`: a store that cannot be reached must not end or slow a
    training job. What could not be sent stays in the journal and is sent later, and so is everything where not even
    the run could be opened. Between attempts the thread pauses for 30 s, then twice as long each time, up to ten
    minutes. No credential is written or sent.
    """

    def __init__(
        self,
        open_: Callable[[], OpenedRun] | None = None,
        folder: Path | None = None,
        begin: Mapping[str, Any] | None = None,
        is_local: bool = False,
    ) -> None:
        """Start to send what earlier attempts left in the journal.

        Args:
            open_: opens or makes the run.
            folder: of the journal.
            begin: what `open_` needs to know, for a later `sync`.
            is_local: whether the store is a file on this machine.
        """
        self._journal: Journal | None = None
        self._retry_at_s = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._is_finishing = self._is_hurried = False
        if open_ is None or folder is None:
            return
        self._wait_s = _WAIT_FOR_FILE_S if is_local else _WAIT_FOR_SERVER_S
        self._last_wait_s = _WAIT_FOR_FILE_S if is_local else _LAST_WAIT_FOR_SERVER_S
        import mlflow  # noqa: F401  in this thread: a fork while another one imports would hang the child

        self._journal = Journal(folder)
        self._delivery = Delivery(self._journal, open_)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._attempts = threading.Condition()
        self._num_begun = self._num_ended = 0  # attempts to send
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._add({"kind": "begin", **(begin or {})})
        self._thread.start()

    @property
    def run_id(self) -> str:
        """Return the id of the run, after a short wait for a store that has not answered yet; "" without one."""
        if self._journal is None:
            return ""
        if self._delivery.run_id == "" and time.monotonic() >= self._retry_at_s:
            self._await_attempt(self._wait_s, is_new=False)
        return self._delivery.run_id

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the numbers among the values; characters MLflow refuses in a name become `_`.

        A stage that goes on from a checkpoint repeats the steps since then, with the same numbers: a step the run has
        is not logged again, unless a setting was changed.
        """
        values = {_name(name): number for name, value in metrics.items() if (number := _number(value)) is not None}
        self._add({"kind": "metrics", "step": step, "time_ms": int(time.time() * 1000), "values": values})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; a setting that differs from the one the run was started with becomes a tag `resumed.NAME`.

        MLflow never changes a parameter. Values are cut at 6,000 characters.
        """
        values = {_name(name): _text(value) for name, value in redact_mapping(params).items()}
        self._add({"kind": "params", "values": values})

    def log_artifact(self, path: Path) -> None:
        """Copy a file, or a folder under its own name, into the run."""
        self._add({"kind": "file", "path": str(path.absolute())})

    def callback(self) -> "TrainerCallback":
        """Return a callback that logs what a transformers Trainer logs, from world rank 0."""
        from transformers import TrainerCallback

        run = self

        class LogToRun(TrainerCallback):
            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if state.is_world_process_zero and logs is not None:
                    run.log_metrics(logs, step=state.global_step)

        return LogToRun()

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, after a last attempt to send what is left.

        A server gets ten seconds for that; what then still waits is for `launch/tracking.py sync`.
        """
        if self._journal is None:
            return
        self._is_finishing = True
        self._add({"kind": "end", "status": status, "time_ms": int(time.time() * 1000)})
        self._thread.join(self._last_wait_s)
        num_waiting = self._journal.num_waiting()
        remedy = f"when the store is back: python launch/tracking.py sync {self._journal.folder}"
        if self._delivery.run_id == "":
            warn(f"this run was never tracked; {remedy}")
        elif num_waiting:
            warn(f"{num_waiting} lines or files were never sent; {remedy}")

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until the thread has tried to send all there is, whatever pause it makes; for tests and benchmarks."""
        if self._journal is not None:
            self._await_attempt(timeout_s, is_new=True)

    def _await_attempt(self, timeout_s: float, is_new: bool) -> None:
        """Wait for the end of an attempt: one that begins after this call, or one that is under way will do."""
        with self._attempts:
            is_under_way = self._num_begun > self._num_ended
            wanted = self._num_begun if is_under_way and not is_new else self._num_begun + 1
            self._is_hurried = wanted > self._num_begun
            self._wake.set()
            self._attempts.wait_for(lambda: self._num_ended >= wanted or not self._thread.is_alive(), timeout_s)

    def _add(self, entry: Mapping[str, Any]) -> None:
        if self._journal is None:
            return
        with self._lock:
            self._journal.append(entry)
        self._wake.set()

    def _work(self) -> None:
        """Send what comes, metrics of two seconds together, until the run is finished."""
        attempts_left = 2  # the last chances do not wait for the pause to pass
        while attempts_left > 0:
            now_s = time.monotonic()
            if not (self._is_finishing or self._is_hurried):
                self._wake.wait(None if self._retry_at_s <= now_s else self._retry_at_s - now_s)
                self._wake.clear()
            is_finishing = self._is_finishing
            if not (is_finishing or self._is_hurried) and time.monotonic() < self._retry_at_s:
                continue
            with self._attempts:
                self._is_hurried = False
                self._num_begun += 1
            is_sent = self._try_to_send()
            with self._attempts:
                self._num_ended += 1
                self._attempts.notify_all()
            if is_finishing:
                attempts_left = 0 if is_sent or self._delivery.run_id == "" else attempts_left - 1
            elif is_sent:
                self._rest()

    def _rest(self) -> None:
        """Let metrics gather, unless somebody waits."""
        end_s = time.monotonic() + _GATHER_S
        while time.monotonic() < end_s and not self._is_hurried and not self._is_finishing:
            self._wake.wait(end_s - time.monotonic())
            if self._is_hurried or self._is_finishing:
                return
            self._wake.clear()
            time.sleep(0.05)
        self._wake.set()

    def _try_to_send(self) -> bool:
        try:
            self._delivery.deliver()
        except DeliveryError as error:
            self._retry_at_s = time.monotonic() + self._pause_s
            warn(f"{error}; " + ("the run has ended" if self._is_finishing else f"next try in {self._pause_s:.0f} s"))
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return False
        self._retry_at_s, self._pause_s = 0.0, _FIRST_PAUSE_S
        return True


def _name(name: Any) -> str:
    return re.sub(r"[^\w\-. :/]", "_", str(name))[:250]


def _number(value: Any) -> float | None:
    """Return a value as a float, infinite where it is too large for one; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if abs(value) == value else -math.inf


def _text(value: Any) -> str:
    """Return a setting as every store takes it: no NUL, no half of a character, and not too long."""
    try:
        text = str(value)
    except Exception as error:  # such as an integer of more digits than Python writes out
        text = f"({type(value).__name__} that cannot be written: {error})"
    return redact(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:_MAX_PARAM_CHARS]

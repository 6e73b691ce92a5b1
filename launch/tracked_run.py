"""One MLflow run as a stage sees it: what it is given to log is kept until the store has taken it."""

import logging
import math
import numbers
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.processes.credentials import redact, redact_mapping

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from transformers import TrainerCallback

_MAX_PARAM_CHARS = 6000
_MAX_PARAMS_PER_BATCH, _MAX_METRICS_PER_BATCH = 100, 1000  # MLflow's own limits
_MAX_PENDING_METRICS = 100_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 600.0
_TEXT_FILES = (".csv", ".html", ".json", ".jsonl", ".log", ".md", ".svg", ".txt", ".yaml", ".yml")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedRun:
    """A run of a store that can be reached; `is_continued` where an earlier attempt of the stage logged to it."""

    client: "MlflowClient"
    run_id: str
    is_continued: bool


@dataclass(frozen=True)
class _Point:
    """One value of a metric; without a step it is a result, not a point of a curve."""

    name: str
    value: float
    time_ms: int
    step: int | None


class TrackedRun:
    """A run that numbers, settings and files are logged to; made without a way to open it, it does nothing.

    No method raises: a store that cannot be reached must not end a training job. What could not be sent is kept and
    sent later, and so is everything where not even the run could be opened. Between attempts it pauses for 30 s, then
    twice as long each time, up to ten minutes. No credential is sent.
    """

    def __init__(self, open_: Callable[[], OpenedRun] | None = None) -> None:
        """Prepare, without reaching for a store; `open_` is called by the first attempt to send something."""
        self.run_id = ""
        self._open = open_
        self._client: MlflowClient | None = None
        self._is_repeating = False  # a continued run goes over steps it logged before
        self._steps: dict[str, set[int]] = {}
        self._params: dict[str, str] = {}
        self._pending: list[_Point] = []
        self._status: str | None = None
        self._files: list[Path] = []
        self._retry_at_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the numbers among the values; characters MLflow refuses in a name become `_`.

        A stage that goes on from a checkpoint repeats the steps since then, with the same numbers: a step the run has
        is not logged again, unless a setting was changed.
        """
        if self._open is None:
            return
        now_ms = int(time.time() * 1000)
        values = {_name(name): _number(value) for name, value in metrics.items()}
        self._pending += [_Point(name, value, now_ms, step) for name, value in values.items() if value is not None]
        del self._pending[:-_MAX_PENDING_METRICS]
        self._send()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; a setting that differs from the one the run was started with becomes a tag `resumed.NAME`.

        MLflow never changes a parameter. Values are cut at 6,000 characters.
        """
        if self._open is None:
            return
        self._params |= {_name(name): _text(value) for name, value in redact_mapping(params).items()}
        self._send()

    def log_artifact(self, path: Path) -> None:
        """Copy a file or a folder into the run."""
        if self._open is None:
            return
        self._files.append(path)
        self._send()

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
        """Send what is kept and end the run as FINISHED, FAILED or KILLED; `open_run` calls this."""
        if self._open is None:
            return
        self._status = status
        for _ in range(1 if self._client is None else 2):  # the last chance: do not wait for the pause to pass
            self._retry_at_s = 0.0
            if self._send():
                return
        if self._client is None:
            _warn("this run was never tracked")
        elif self._pending or self._files:
            _warn(f"{len(self._pending)} metric values and {len(self._files)} files were never sent")

    def _send(self) -> bool:
        """Send all that is kept, unless the last failure was a short while ago; return whether all is sent."""
        if time.monotonic() < self._retry_at_s:
            return False
        what = "this run is not tracked yet"
        try:
            if self._client is None:
                self._connect()
            what = "could not log parameters"
            self._send_params()
            what = "could not log metrics"
            self._send_metrics()
            what = "could not log the end of the run"
            self._send_status()
            what = "could not log files"
            self._send_files()
        except Exception as error:  # whatever the store, the network or the disk does, training goes on
            self._retry_at_s = time.monotonic() + self._pause_s
            next_try = f"next try in {self._pause_s:.0f} s" if self._status is None else "the run has ended"
            _warn(f"{what} ({_brief(error)}); {next_try}")
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return False
        self._retry_at_s, self._pause_s = 0.0, _FIRST_PAUSE_S
        return True

    def _connect(self) -> None:
        assert self._open is not None
        opened = self._open()
        self._client, self.run_id, self._is_repeating = opened.client, opened.run_id, opened.is_continued

    def _send_params(self) -> None:
        from mlflow.entities import Param, RunTag

        assert self._client is not None
        if not self._params:
            return
        known = self._client.get_run(self.run_id).data.params
        new = [Param(name, text) for name, text in self._params.items() if name not in known]
        changed = [
            RunTag(f"resumed.{name}", text) for name, text in self._params.items() if known.get(name, text) != text
        ]
        self._is_repeating = self._is_repeating and not changed
        for start in range(0, len(new), _MAX_PARAMS_PER_BATCH):
            self._send_batch("params", new[start : start + _MAX_PARAMS_PER_BATCH])
        for start in range(0, len(changed), _MAX_PARAMS_PER_BATCH):
            self._send_batch("tags", changed[start : start + _MAX_PARAMS_PER_BATCH])
        self._params = {}

    def _send_metrics(self) -> None:
        from mlflow.entities import Metric

        while self._pending:
            points = self._pending[:_MAX_METRICS_PER_BATCH]
            new = [Metric(p.name, p.value, p.time_ms, p.step or 0) for p in points if not self._has(p)]
            self._send_batch("metrics", new)
            del self._pending[: len(points)]

    def _has(self, point: _Point) -> bool:
        """Tell whether an earlier attempt of this stage logged this step of the metric."""
        if not self._is_repeating or point.step is None:
            return False
        if point.name not in self._steps:
            assert self._client is not None
            self._steps[point.name] = {old.step for old in self._client.get_metric_history(self.run_id, point.name)}
        return point.step in self._steps[point.name]

    def _send_status(self) -> None:
        assert self._client is not None
        if self._status is not None:
            self._client.set_terminated(self.run_id, self._status)

    def _send_files(self) -> None:
        assert self._client is not None
        while self._files:
            path = self._files[0]
            if not path.exists():
                _warn(f"{path.name} is gone and was not sent")
            for file in sorted(file for file in (path, *path.rglob("*")) if file.is_file()):
                folder = "" if file == path else file.parent.relative_to(path).as_posix().removeprefix(".")
                with tempfile.TemporaryDirectory() as scratch:
                    self._client.log_artifact(self.run_id, str(_clean_file(file, Path(scratch))), folder or None)
            del self._files[0]

    def _send_batch(self, kind: str, items: Sequence[Any]) -> None:
        """Send items at once; where MLflow refuses some of them for what they are, all but those."""
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        if not items:
            return
        try:
            self._client.log_batch(self.run_id, **{kind: items})
        except MlflowException as error:
            is_alive = self._client.get_run(self.run_id).info.lifecycle_stage == "active"
            if error.error_code != "INVALID_PARAMETER_VALUE" or not is_alive:
                raise
            if len(items) == 1:
                _warn(f"{items[0].key} is left out of the {kind} ({_brief(error)})")
                return
            half = len(items) // 2
            self._send_batch(kind, items[:half])
            self._send_batch(kind, items[half:])


def _clean_file(file: Path, scratch: Path) -> Path:
    """Return a file without credentials: itself, or a copy in `scratch`."""
    if file.suffix not in _TEXT_FILES:
        return file
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    clean = redact(text)
    if clean == text:
        return file
    copy = scratch / file.name
    copy.write_text(clean, encoding="utf-8", errors="surrogateescape")
    return copy


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


def _brief(error: Exception) -> str:
    lines = redact(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _warn(message: str) -> None:
    _log.warning("MLflow: %s", redact(message))

"""Delivers a journal to MLflow: in order, each step of a metric once, going on where it stopped."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.processes.credentials import redact
from launch.tracking_journal import Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_PARAMS_PER_BATCH, _MAX_METRICS_PER_BATCH = 100, 1000  # MLflow's own limits
_TEXT_FILES = (".csv", ".html", ".json", ".jsonl", ".log", ".md", ".svg", ".txt", ".yaml", ".yml")

_log = logging.getLogger(__name__)


class DeliveryError(Exception):
    """The store did not take something; says what, and in brief why."""


@dataclass(frozen=True)
class OpenedRun:
    """A run of a store that can be reached; `is_continued` where an earlier attempt of the stage logged to it."""

    client: "MlflowClient"
    run_id: str
    is_continued: bool


class Delivery:
    """Sends what a journal holds to one run. One thread at a time may use it."""

    def __init__(self, journal: Journal, open_: Callable[[], OpenedRun]) -> None:
        """Prepare; `open_` is called by the first `deliver` that reaches the store."""
        self.run_id = ""
        self.client: MlflowClient | None = None
        self._journal, self._open = journal, open_
        self._has_history = False
        self._is_changed = False  # a setting is another than at the start, so steps may have other numbers
        self._is_ended = False
        self._steps: dict[str, set[int]] = {}

    def deliver(self) -> None:
        """Send everything that waits.

        Raises:
            DeliveryError: the store did not take something; the rest waits for the next call. A file that it does not
                take holds up nothing else.
        """
        what = "this run is not tracked yet"
        try:
            if self.client is None:
                opened = self._open()
                self.client, self.run_id, self._has_history = opened.client, opened.run_id, opened.is_continued
            points: list[dict[str, Any]] = []
            place = None
            for entry, after in self._journal.unsent():
                if entry["kind"] != "metrics" or len(points) >= _MAX_METRICS_PER_BATCH:
                    what = "could not log metrics"
                    self._send_points(points, place)
                    points = []
                if entry["kind"] == "metrics":
                    rows = entry["values"].items()
                    points += [{"name": n, "value": v, **entry} for n, v in rows]
                else:
                    what = f"could not log {_NAMES[entry['kind']]}"
                    self._send_other(entry)
                    self._journal.mark(after)
                place = after
            what = "could not log metrics"
            self._send_points(points, place)
        except Exception as error:  # whatever the store, the network or the disk does
            raise DeliveryError(f"{what} ({_brief(error)})") from error
        self._send_files()

    def _send_points(self, points: Sequence[dict[str, Any]], place: int | None) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), _MAX_METRICS_PER_BATCH):
            batch = points[start : start + _MAX_METRICS_PER_BATCH]
            new = [p for p in batch if not self._has(p["name"], p["step"])]
            rows = [Metric(p["name"], float(p["value"]), p["time_ms"], p["step"] or 0) for p in new]
            self._send_batch("metrics", rows)
            for p in new:
                if p["step"] is not None:
                    self._steps[p["name"]].add(p["step"])
        if points:
            self._journal.mark(place)

    def _has(self, name: str, step: int | None) -> bool:
        """Tell whether the run has this step of the metric, with the same settings."""
        assert self.client is not None
        if step is None:
            return False
        if name not in self._steps:
            history = self.client.get_metric_history(self.run_id, name) if self._has_history else ()
            self._steps[name] = {point.step for point in history}
        return step in self._steps[name] and not self._is_changed

    def _send_other(self, entry: dict[str, Any]) -> None:
        assert self.client is not None
        if entry["kind"] == "begin":
            self._is_changed = False
            if self._is_ended:
                self.client.update_run(self.run_id, status="RUNNING")
        elif entry["kind"] == "params":
            self._send_params(entry["values"])
        elif entry["kind"] == "file":
            self._journal.mark(files=(*self._journal.files, entry["path"]))  # sent after all that holds nothing up
        elif entry["kind"] == "end":
            self.client.set_terminated(self.run_id, entry["status"], entry["time_ms"])
            self._is_ended = True

    def _send_params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        assert self.client is not None
        known = self.client.get_run(self.run_id).data.params
        new = [Param(name, text) for name, text in params.items() if name not in known]
        changed = [RunTag(f"resumed.{name}", text) for name, text in params.items() if known.get(name, text) != text]
        self._is_changed = self._is_changed or bool(changed)
        for kind, items in (("params", new), ("tags", changed)):
            for start in range(0, len(items), _MAX_PARAMS_PER_BATCH):
                self._send_batch(kind, items[start : start + _MAX_PARAMS_PER_BATCH])

    def _send_files(self) -> None:
        refused, why = [], ""
        for name in self._journal.files:
            try:
                self._send_file(Path(name))
            except Exception as error:
                refused.append(name)
                why = _brief(error)
        if self._journal.files:
            self._journal.mark(files=tuple(refused))
        if refused:
            hint = "; make the store's artifact folder writable" if "Permission" in why or "Read-only" in why else ""
            raise DeliveryError(f"could not log files ({why}{hint})")

    def _send_file(self, path: Path) -> None:
        assert self.client is not None
        if not path.exists():
            warn(f"{path.name} is gone and was not sent")
        for file in sorted(file for file in (path, *path.rglob("*")) if file.is_file()):
            folder = file.parent.relative_to(path.parent).as_posix().removeprefix(".")
            with tempfile.TemporaryDirectory() as scratch:
                self.client.log_artifact(self.run_id, str(_clean_file(file, Path(scratch))), folder or None)

    def _send_batch(self, kind: str, items: Sequence[Any]) -> None:
        """Send items at once; where MLflow refuses some of them for what they are, all but those."""
        from mlflow.exceptions import MlflowException

        assert self.client is not None
        if not items:
            return
        try:
            self.client.log_batch(self.run_id, **{kind: items})
        except MlflowException as error:
            is_alive = self.client.get_run(self.run_id).info.lifecycle_stage == "active"
            if error.error_code != "INVALID_PARAMETER_VALUE" or not is_alive:
                raise
            if len(items) == 1:
                warn(f"{items[0].key} is left out of the {kind} ({_brief(error)})")
                return
            half = len(items) // 2
            self._send_batch(kind, items[:half])
            self._send_batch(kind, items[half:])


_NAMES = {"begin": "the start of the run", "params": "parameters", "file": "files", "end": "the end of the run"}


def warn(message: str) -> None:
    """Say something about MLflow, without credentials."""
    _log.warning("MLflow: %s", redact(message))


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


def _brief(error: Exception) -> str:
    lines = redact(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"

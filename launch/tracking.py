"""MLflow: one run a stage, a child of one run a pipeline; the only file that talks to it."""

import contextlib
import fcntl
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.stage import rank

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from transformers import TrainerCallback

PIPELINE_RUN_ID = "EPO_PIPELINE_RUN_ID"
"""Environment variable by which the pipeline driver tells its stages the id of their parent run."""

_RUN_ID_FILE = "mlflow_run_id.txt"
_MAX_PARAM_CHARS = 6000
_MAX_PARAMS_PER_BATCH, _MAX_METRICS_PER_BATCH = 100, 1000  # MLflow's own limits
_MAX_PENDING_METRICS = 100_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 600.0
_SECRET = re.compile(r"(token|password|secret|api_key)$", re.IGNORECASE)

# A server that is down or slow may cost a training step seconds, not MLflow's default of many minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_log = logging.getLogger(__name__)


class TrackedRun:
    """A run that numbers and files are logged to; without a client it does nothing.

    No method raises: a store that cannot be reached must not end a training job. Metrics that could not be sent
    are kept and sent with later ones; between attempts it pauses for 30 s, then twice as long each time.
    """

    def __init__(self, client: "MlflowClient | None" = None, run_id: str = "") -> None:
        """Wrap an MLflow run that exists; without arguments, a run that is not tracked and has an empty id."""
        self.run_id = run_id
        self._client = client
        self._pending: list[Any] = []
        self._retry_at_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the numbers among the values; characters MLflow refuses in a name become `_`."""
        if self._client is None:
            return
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._pending += [
            Metric(_metric_name(name), float(value), now_ms, 0 if step is None else step)
            for name, value in metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        del self._pending[:-_MAX_PENDING_METRICS]
        self._attempt("metrics", self._send_pending)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; a setting that differs from the one the run was started with becomes a tag `resumed.NAME`.

        MLflow never changes a parameter. Values are cut at 6,000 characters, and those of keys that end in token,
        password, secret or api_key are not logged.
        """
        texts = {name: _param_text(name, value) for name, value in params.items()}
        self._attempt("parameters", lambda: self._send_params(texts))

    def log_artifact(self, path: Path) -> None:
        """Copy a file or a folder into the run."""
        if self._client is None:
            return
        client, run_id = self._client, self.run_id
        send = client.log_artifacts if path.is_dir() else client.log_artifact
        self._attempt(f"artifact {path.name}", lambda: send(run_id, str(path)))

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
        """Send what is pending and end the run as FINISHED, FAILED or KILLED; `open_run` calls this."""
        if self._client is None:
            return
        client, run_id = self._client, self.run_id
        self._retry_at_s = 0.0  # the last chance: do not wait for the pause to pass
        self._attempt("the last metrics", self._send_pending)
        self._attempt("the end of the run", lambda: client.set_terminated(run_id, status))
        if self._pending:
            _log.warning("MLflow: %d metric values were never sent", len(self._pending))

    def _attempt(self, what: str, action: Callable[[], Any]) -> None:
        if self._client is None or time.monotonic() < self._retry_at_s:
            return
        try:
            action()
        except Exception as error:  # whatever the store, the network or the disk does, training goes on
            self._retry_at_s = time.monotonic() + self._pause_s
            _log.warning("MLflow: could not log %s (%s); next try in %.0f s", what, _brief(error), self._pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        else:
            self._retry_at_s, self._pause_s = 0.0, _FIRST_PAUSE_S

    def _send_pending(self) -> None:
        assert self._client is not None
        while self._pending:
            self._client.log_batch(self.run_id, metrics=self._pending[:_MAX_METRICS_PER_BATCH])
            del self._pending[:_MAX_METRICS_PER_BATCH]

    def _send_params(self, texts: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        assert self._client is not None
        known = self._client.get_run(self.run_id).data.params
        new = [Param(name, text) for name, text in texts.items() if name not in known]
        changed = [RunTag(f"resumed.{name}", text) for name, text in texts.items() if known.get(name, text) != text]
        for start in range(0, len(new), _MAX_PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=new[start : start + _MAX_PARAMS_PER_BATCH])
        for start in range(0, len(changed), _MAX_PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, tags=changed[start : start + _MAX_PARAMS_PER_BATCH])


@contextlib.contextmanager
def open_run(
    stage: str, pipeline: str, experiment: str, output_dir: Path, resolved: Mapping[str, Any]
) -> Iterator[TrackedRun]:
    """Open the MLflow run of a stage, below the run of its pipeline.

    On rank 0 it continues the run named in `output_dir/mlflow_run_id.txt`, so that a resumed stage stays one run,
    or starts a new one; the other ranks get a run that does nothing. The run ends as FINISHED, as KILLED on
    KeyboardInterrupt or SIGTERM (which becomes SystemExit 143 unless the stage handles it), else as FAILED.

    Args:
        stage: name of the run, such as "epo".
        pipeline: name of the parent run, which is found by this name or created.
        experiment: MLflow experiment both belong to.
        output_dir: the stage's folder.
        resolved: the recipe, logged as parameters.
    """
    with _tracked(output_dir, experiment, lambda client, id_: _open_stage(client, id_, stage, pipeline)) as run:
        run.log_params(resolved)
        yield run


@contextlib.contextmanager
def open_pipeline(
    pipeline: str, experiment: str, output_dir: Path, resolved: Mapping[str, Any]
) -> Iterator[TrackedRun]:
    """Open the parent run of a pipeline; the driver hands its `run_id` to every stage as `EPO_PIPELINE_RUN_ID`.

    Args, folder and ending are those of `open_run`.
    """
    with _tracked(output_dir, experiment, lambda client, id_: _create_parent(client, id_, pipeline)) as run:
        run.log_params(resolved)
        yield run


def store_root(output_dir: Path) -> Path:
    """Return the folder of `mlflow.db`: the nearest folder named `runs` at or above `output_dir`, else its parent.

    So every stage and pipeline of one project meets in one store.
    """
    path = Path(os.path.abspath(output_dir))
    return next((folder for folder in (path, *path.parents) if folder.name == "runs"), path.parent)


def tracking_uri(output_dir: Path) -> str:
    """Return `MLFLOW_TRACKING_URI` where it is set, else the sqlite store in `store_root(output_dir)`."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return uri if uri else f"sqlite:///{store_root(output_dir)}/mlflow.db"


@contextlib.contextmanager
def _tracked(output_dir: Path, experiment: str, create: "Callable[[MlflowClient, str], str]") -> Iterator[TrackedRun]:
    """Open or continue a run, see it through, and record how it ended."""
    run = _connect(output_dir, experiment, create) if rank() == 0 else TrackedRun()
    status = "FINISHED"
    with _sigterm_as_exit() if rank() == 0 else contextlib.nullcontext():
        try:
            yield run
        except BaseException as error:
            status = _status_after(error)
            raise
        finally:
            run.finish(status)


def _connect(output_dir: Path, experiment: str, create: "Callable[[MlflowClient, str], str]") -> TrackedRun:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # table creation is told in twenty lines otherwise
    try:
        from mlflow import MlflowClient

        root = store_root(output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
        with _lock(root / "mlflow.lock"):
            client = MlflowClient(tracking_uri=tracking_uri(output_dir))
            run_id = _continue_run(client, output_dir)
            if run_id is None:
                run_id = create(client, _experiment_id(client, experiment, root))
                (output_dir / _RUN_ID_FILE).write_text(run_id + "\n", encoding="utf-8")
        return TrackedRun(client, run_id)
    except Exception as error:
        _log.warning("MLflow: this run is not tracked (%s)", _brief(error))
        return TrackedRun()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time create tables, experiments and parent runs."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _continue_run(client: "MlflowClient", output_dir: Path) -> str | None:
    """Return the id of the run this folder belongs to, running again; None where there is none or it is gone."""
    path = output_dir / _RUN_ID_FILE
    if not path.is_file():
        return None
    run_id = path.read_text(encoding="utf-8").strip()
    if not _is_alive(client, run_id):
        return None
    client.update_run(run_id, status="RUNNING")
    return run_id


def _is_alive(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise


def _experiment_id(client: "MlflowClient", name: str, root: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    # A server keeps artifacts where it was told to; the sqlite store keeps them beside the database.
    is_local = client.tracking_uri.startswith("sqlite:")
    return client.create_experiment(name, (root / "mlartifacts").as_uri() if is_local else None)


def _open_stage(client: "MlflowClient", experiment_id: str, stage: str, pipeline: str) -> str:
    parent = _find_parent(client, experiment_id, pipeline)
    if parent is None:
        parent = _create_parent(client, experiment_id, pipeline)
        client.set_terminated(parent, "FINISHED")  # no driver will end it
    tags = {"mlflow.parentRunId": parent, "epo.pipeline": pipeline, "epo.stage": stage}
    return client.create_run(experiment_id, tags=tags, run_name=stage).info.run_id


def _find_parent(client: "MlflowClient", experiment_id: str, pipeline: str) -> str | None:
    given = os.environ.get(PIPELINE_RUN_ID)
    if given is not None and _is_alive(client, given):
        return given
    quoted = pipeline.replace("'", "")
    query = f"tags.`epo.stage` = 'pipeline' and tags.`epo.pipeline` = '{quoted}'"
    found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0].info.run_id if found else None


def _create_parent(client: "MlflowClient", experiment_id: str, pipeline: str) -> str:
    tags = {"epo.pipeline": pipeline.replace("'", ""), "epo.stage": "pipeline"}
    return client.create_run(experiment_id, tags=tags, run_name=pipeline).info.run_id


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit 143, so that the run is ended; a handler of the stage's own is left alone."""
    try:
        is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if is_default:
            signal.signal(signal.SIGTERM, _exit_on_sigterm)
    except ValueError:  # not the main thread: signals are someone else's business
        is_default = False
    try:
        yield
    finally:
        if is_default and signal.getsignal(signal.SIGTERM) is _exit_on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_on_sigterm(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)


def _status_after(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "FINISHED"
        return "KILLED" if error.code in (128 + signal.SIGINT, 128 + signal.SIGTERM) else "FAILED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _metric_name(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def _param_text(name: str, value: Any) -> str:
    text = "(not logged)" if _SECRET.search(name) and isinstance(value, str) else str(value)
    return text[:_MAX_PARAM_CHARS]


def _brief(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"

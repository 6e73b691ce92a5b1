"""MLflow: one run a stage, a child of one run a pipeline; how it is found or made, how it ends, and sending it later.

    python launch/tracking.py sync FOLDER [FOLDER ...]

sends what a stage's or pipeline's folder has in its journal and the store has not taken yet.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import launch  # noqa: F401
from launch import stage as this_process
from launch.folder.folder_lock import hold
from launch.keys.recipe_file import RecipeError
from launch.processes.credentials import redact
from launch.stage import rank
from launch.tracked_run import TrackedRun
from launch.tracking_delivery import Delivery, DeliveryError, OpenedRun
from launch.tracking_journal import JOURNAL, Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient

PIPELINE_RUN_ID = "EPO_PIPELINE_RUN_ID"
"""Environment variable by which the pipeline driver tells its stages the id of their parent run."""

_RUN_ID_FILE = "mlflow_run_id.txt"
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

# A server that is down or silent may cost a stage seconds, not MLflow's default of many minutes. Nothing is lost by
# not repeating a request: `TrackedRun` does so later.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_run(
    stage: str, pipeline: str, experiment: str, output_dir: Path, resolved: Mapping[str, Any]
) -> Iterator[TrackedRun]:
    """Open the MLflow run of a stage, below the run of its pipeline.

    On rank 0 it continues the run named in `output_dir/mlflow_run_id.txt`, so that a resumed stage stays one run,
    or starts a new one; the other ranks get a run that does nothing. The run ends as FINISHED, as KILLED on
    KeyboardInterrupt, SIGTERM or SIGHUP (which become SystemExit 143 and 129 unless the stage handles them), else as
    FAILED.

    Args:
        stage: name of the run, such as "epo".
        pipeline: name of the parent run, which is found by this name or created.
        experiment: MLflow experiment both belong to.
        output_dir: the stage's folder.
        resolved: the recipe, logged as parameters.
    """
    with _tracked(output_dir, {"stage": redact(stage), "pipeline": redact(pipeline)}, experiment) as run:
        run.log_params(resolved)
        yield run


@contextlib.contextmanager
def open_pipeline(
    pipeline: str, experiment: str, output_dir: Path, resolved: Mapping[str, Any]
) -> Iterator[TrackedRun]:
    """Open the parent run of a pipeline; the driver hands its `run_id` to every stage as `EPO_PIPELINE_RUN_ID`.

    Args, folder and ending are those of `open_run`.
    """
    with _tracked(output_dir, {"stage": None, "pipeline": redact(pipeline)}, experiment) as run:
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


def sync(folder: Path) -> int:
    """Send what the journal of a stage's or pipeline's folder still holds, and return how many lines that were.

    Raises:
        RecipeError: there is no journal, or the store does not take it.
        FolderInUseError: the stage is running, and sends by itself.
    """
    journal = Journal(folder)
    begin = journal.last("begin")
    if begin is None:
        raise RecipeError(f"{folder}: no {JOURNAL} there; name the output_dir of a stage or pipeline that was tracked")
    with hold(folder):
        num_waiting = journal.num_waiting()
        if num_waiting:
            try:
                Delivery(journal, lambda: _open(folder, begin)).deliver()
            except DeliveryError as error:
                raise RecipeError(
                    f"{folder}: {error}; what is left is kept: see that {redact(tracking_uri(folder))} can be reached, "
                    "and give the command again"
                ) from None
    return num_waiting


@contextlib.contextmanager
def _tracked(output_dir: Path, names: Mapping[str, Any], experiment: str) -> Iterator[TrackedRun]:
    """Open or continue a run, see it through, and record how it ended."""
    begin = {**names, "experiment": redact(experiment), "time_ms": int(time.time() * 1000)}
    if rank() == 0:
        _settle_environment()
        is_local = tracking_uri(output_dir).startswith("sqlite:")
        run = TrackedRun(lambda: _open(output_dir, begin), output_dir, begin, is_local)
    else:
        run = TrackedRun()
    status = "FINISHED"
    with _sigterm_as_exit() if rank() == 0 else contextlib.nullcontext():
        try:
            yield run
        except BaseException as error:
            status = _status_after(error)
            raise
        finally:
            run.finish(status)


def _settle_environment() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # table creation is told in twenty lines otherwise


def _open(output_dir: Path, begin: Mapping[str, Any]) -> OpenedRun:
    """Continue the run of this folder or create it; raises whatever keeps it from doing so."""
    _settle_environment()
    from mlflow import MlflowClient

    root = store_root(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    with _lock(root / "mlflow.lock"):
        client = MlflowClient(tracking_uri=tracking_uri(output_dir))
        run_id = _continue_run(client, output_dir)
        if run_id is not None:
            return OpenedRun(client, run_id, is_continued=True)
        experiment_id, start_ms = _experiment_id(client, begin["experiment"], root), begin["time_ms"]
        if begin["stage"] is None:
            run_id = _create_parent(client, experiment_id, start_ms, begin["pipeline"])
        else:
            run_id = _create_stage(client, experiment_id, start_ms, begin["stage"], begin["pipeline"])
        (output_dir / _RUN_ID_FILE).write_text(run_id + "\n", encoding="utf-8")
    return OpenedRun(client, run_id, is_continued=False)


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
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise


def _experiment_id(client: "MlflowClient", name: str, root: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":  # its name stays taken
            client.restore_experiment(found.experiment_id)
            _log.warning("MLflow: experiment %r had been deleted; it is restored to hold this run", name)
        return str(found.experiment_id)
    # A server keeps artifacts where it was told to; the sqlite store keeps them beside the database.
    is_local = client.tracking_uri.startswith("sqlite:")
    return str(client.create_experiment(name, (root / "mlartifacts").as_uri() if is_local else None))


def _create_stage(client: "MlflowClient", experiment_id: str, start_ms: int, stage: str, pipeline: str) -> str:
    parent = _find_parent(client, experiment_id, pipeline)
    if parent is None:
        parent = _create_parent(client, experiment_id, start_ms, pipeline)
        client.set_terminated(parent, "FINISHED")  # no driver will end it
    tags = {"mlflow.parentRunId": parent, "epo.pipeline": pipeline, "epo.stage": stage}
    return str(client.create_run(experiment_id, start_ms, tags, stage).info.run_id)


def _find_parent(client: "MlflowClient", experiment_id: str, pipeline: str) -> str | None:
    given = os.environ.get(PIPELINE_RUN_ID)
    if given is not None and _is_alive(client, given):
        return given
    quoted = pipeline.replace("'", "")
    query = f"tags.`epo.stage` = 'pipeline' and tags.`epo.pipeline` = '{quoted}'"
    found = client.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0].info.run_id if found else None


def _create_parent(client: "MlflowClient", experiment_id: str, start_ms: int, pipeline: str) -> str:
    tags = {"epo.pipeline": pipeline.replace("'", ""), "epo.stage": "pipeline"}
    return str(client.create_run(experiment_id, start_ms, tags, pipeline).info.run_id)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Turn SIGTERM, and SIGHUP of a closed terminal, into SystemExit, so that the run is ended.

    A handler of the stage's own, or `nohup`, is left alone.
    """
    replaced = []
    with contextlib.suppress(ValueError):  # not the main thread: signals are someone else's business
        for number in _ENDING_SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit_on_signal)
                replaced.append(number)
    try:
        yield
    finally:
        for number in replaced:
            if signal.getsignal(number) is _exit_on_signal:
                signal.signal(number, signal.SIG_DFL)


def _exit_on_signal(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _status_after(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "FINISHED"
        return "KILLED" if error.code in [128 + number for number in (signal.SIGINT, *_ENDING_SIGNALS)] else "FAILED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def run(argv: Sequence[str] | None = None) -> None:
    """Read the command line and send journals."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").split("\n\n", 1)[1].strip())
        return
    if words[0] != "sync" or len(words) < 2:
        raise RecipeError(f"{words[0]}: want sync and one or more folders: python launch/tracking.py sync FOLDER")
    for name in words[1:]:
        print(f"{name}: {sync(Path(name))} lines and files sent")


if __name__ == "__main__":
    this_process.main(run, is_stage=False)

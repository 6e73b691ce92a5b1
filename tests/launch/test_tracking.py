"""Tracking against real stores: sqlite in a temporary folder, and a server that is there, slow, or not there."""

import contextlib
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow import MlflowClient

from launch import tracking
from launch.folder.folder_lock import FolderInUseError, hold
from launch.keys.recipe_file import RecipeError


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One folder `runs` for the module, since creating the tables of a store takes a second."""
    return tmp_path_factory.mktemp("project") / "runs"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "RANK", tracking.PIPELINE_RUN_ID, *tracking._ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(root) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def _open(output_dir, stage="epo", pipeline="demo", resolved=None):
    return tracking.open_run(stage, pipeline, "tests", output_dir, {"beta": 0.2} if resolved is None else resolved)


def _runs(client):
    experiment = client.get_experiment_by_name("tests")
    return client.search_runs([experiment.experiment_id])


def test_store_root_is_the_nearest_runs_folder_or_the_parent():
    assert tracking.store_root(Path("/a/runs/quickstart/epo")) == Path("/a/runs")
    assert tracking.store_root(Path("/a/runs/b/runs/epo")) == Path("/a/runs/b/runs")
    assert tracking.store_root(Path("/scratch/me/epo")) == Path("/scratch/me")
    assert tracking.tracking_uri(Path("/a/runs/x")) == "sqlite:////a/runs/mlflow.db"


def test_a_stage_becomes_one_run_below_its_pipeline(root, client, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    media = tmp_path / "report_media"
    (media / "more").mkdir(parents=True)
    for name in ("01.mp4", "more/02.mp4"):
        (media / name).write_bytes(b"\x00\xff")
    resolved = {"beta": 0.2, "prompt": "x" * 7000, "hub_token": "hush"} | {f"key_{i}": i for i in range(120)}
    with _open(root / "demo/epo", resolved=resolved) as run:
        run.log_metrics({"rewards/margins": 0.5, "accuracy (sad)": 0.25, "note": "text", "flag": True}, step=3)
        run.log_metrics({f"m{i}": i for i in range(1100)})  # more than one batch holds
        run.log_artifact(report)
        run.log_artifact(media)
        assert client.get_run(run.run_id).info.status == "RUNNING"
    done = client.get_run(run.run_id)
    assert done.info.status == "FINISHED"
    assert done.info.run_name == "epo"
    assert done.data.metrics["rewards/margins"] == 0.5
    assert done.data.metrics["accuracy _sad_"] == 0.25
    assert done.data.metrics["m1099"] == 1099
    assert not {"note", "flag"} & set(done.data.metrics)
    assert client.get_metric_history(run.run_id, "rewards/margins")[0].step == 3
    assert (done.data.params["beta"], len(done.data.params["prompt"])) == ("0.2", 6000)
    assert (done.data.params["hub_token"], done.data.params["key_119"]) == ("***", "119")
    kept = root / "mlartifacts" / run.run_id / "artifacts"
    assert (kept / "report.html").read_text() == "<p>fine</p>"
    assert (
        (kept / "report_media/01.mp4").read_bytes() == (kept / "report_media/more/02.mp4").read_bytes() == b"\x00\xff"
    )
    parent = client.get_run(done.data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.info.status) == ("demo", "FINISHED")


def test_stages_share_a_parent_and_a_resumed_stage_stays_one_run(root, client):
    with _open(root / "shared/sft", "sft", "it's shared") as first:
        first.log_metrics({"loss": 2.0}, step=1)
    with _open(root / "shared/epo", "epo", "it's shared") as second:
        pass
    with _open(root / "shared/sft", "sft", "it's shared", {"beta": 0.3}) as resumed:
        resumed.log_metrics({"loss": 1.0}, step=2)
    assert resumed.run_id == first.run_id
    assert [point.value for point in client.get_metric_history(first.run_id, "loss")] == [2.0, 1.0]
    data = client.get_run(first.run_id).data
    assert (data.params["beta"], data.tags["resumed.beta"]) == ("0.2", "0.3")
    assert data.tags["mlflow.parentRunId"] == client.get_run(second.run_id).data.tags["mlflow.parentRunId"]


def test_the_driver_hands_its_run_to_the_stages(root, client, monkeypatch):
    with tracking.open_pipeline("demo", "tests", root / "driven", {"stages": "epo"}) as parent:
        monkeypatch.setenv(tracking.PIPELINE_RUN_ID, parent.run_id)
        with _open(root / "driven/epo") as stage:
            pass
        assert client.get_run(parent.run_id).info.status == "RUNNING"
    assert client.get_run(stage.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert client.get_run(parent.run_id).info.status == "FINISHED"
    monkeypatch.setenv(tracking.PIPELINE_RUN_ID, "0" * 32)  # of another store: found by name instead
    with _open(root / "driven/sft", "sft") as other:
        pass
    assert client.get_run(other.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_a_run_the_store_no_longer_knows_is_made_anew(root, client):
    folder = root / "lost"
    with _open(folder) as first:
        pass
    client.delete_run(first.run_id)
    with _open(folder) as second:
        pass
    (folder / "mlflow_run_id.txt").write_text("../../nonsense\n")
    with _open(folder) as third:
        pass
    assert len({first.run_id, second.run_id, third.run_id}) == 3
    assert (folder / "mlflow_run_id.txt").read_text().strip() == third.run_id


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("boom"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(130), "KILLED"),
        (SystemExit(143), "KILLED"),
        (SystemExit(129), "KILLED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_how_a_run_ends(root, client, error, status):
    with pytest.raises(type(error)), _open(root / "ends" / status) as run:
        raise error
    assert client.get_run(run.run_id).info.status == status


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_as_killed_and_the_handler_goes_away(root, client, number, code):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, _open(root / "signal") as run:
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert ended.value.code == code
    assert client.get_run(run.run_id).info.status == "KILLED"


def test_under_nohup_a_closed_terminal_ends_nothing(root, client):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _open(root / "nohup") as run:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_other_ranks_log_nothing(root, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with _open(root / "rank1") as run:
        run.log_metrics({"loss": 1.0})
        run.log_artifact(root)
        run.log_params({"a": 1})
    assert run.run_id == ""
    assert not (root / "rank1").exists()


def test_the_callback_logs_what_the_trainer_logs_on_world_rank_0(root, client):
    with _open(root / "callback") as run:
        callback = run.callback()
        for step, is_first_rank in ((5, True), (6, False)):
            state = SimpleNamespace(is_world_process_zero=is_first_rank, global_step=step)
            callback.on_log(None, state, None, logs={"loss": 0.5, "rewards/chosen": 1.5})
    history = client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(5, 0.5)]
    assert client.get_run(run.run_id).data.metrics["rewards/chosen"] == 1.5


def test_a_server_that_is_not_there_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    start_s = time.monotonic()
    with caplog.at_level(logging.WARNING), _open(tmp_path / "runs/epo") as run:
        run.log_metrics({"loss": 1.0})
    assert run.run_id == ""
    assert "this run is not tracked yet" in caplog.text
    assert "this run was never tracked" in caplog.text
    assert time.monotonic() - start_s < 20


@pytest.mark.parametrize("comes_back", ["in the middle", "before the end"])
def test_a_store_that_could_not_be_reached_at_the_start_gets_everything_later(root, client, monkeypatch, comes_back):
    folder = root / "late" / comes_back
    with _open(folder, resolved={"beta": 0.2, "alpha": 1}) as first:
        first.log_metrics({"loss": 3.0}, step=1)
    report = root / "late" / "report.json"
    report.write_text("{}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with _open(folder, resolved={"beta": 0.3, "alpha": 1}) as resumed:
        resumed.log_metrics({"loss": 2.0}, step=2)
        resumed.log_artifact(report)
        resumed.settle()
        assert resumed.run_id == ""
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        if comes_back == "in the middle":
            resumed.log_metrics({"loss": 1.0}, step=3)
            resumed.settle()
            assert resumed.run_id == first.run_id
            assert client.get_run(first.run_id).info.status == "RUNNING"
    assert resumed.run_id == first.run_id
    done = client.get_run(first.run_id)
    assert (done.info.status, done.data.tags["resumed.beta"]) == ("FINISHED", "0.3")
    values = [3.0, 2.0, 1.0] if comes_back == "in the middle" else [3.0, 2.0]
    assert [point.value for point in client.get_metric_history(first.run_id, "loss")] == values
    assert [entry.path for entry in client.list_artifacts(first.run_id)] == ["report.json"]


def test_a_resumed_stage_does_not_repeat_its_steps(root, client):
    folder = root / "repeats"
    with _open(folder) as run:
        for step in range(1, 7):
            run.log_metrics({"loss": 10.0 - step}, step)
        run.log_metrics({"validation/loss": 4.0})
    with _open(folder) as run:  # from the checkpoint of step 4
        for step in range(5, 9):
            run.log_metrics({"loss": 10.0 - step, "new": 0.5}, step)
        run.log_metrics({"validation/loss": 3.0})
    history = client.get_metric_history(run.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [point.step for point in client.get_metric_history(run.run_id, "new")] == [5, 6, 7, 8]
    assert [point.value for point in client.get_metric_history(run.run_id, "validation/loss")] == [4.0, 3.0]
    with _open(folder, resolved={"beta": 0.5}) as run:  # other numbers, which must be seen
        run.log_metrics({"loss": 7.5}, 8)
    assert [(p.step, p.value) for p in client.get_metric_history(run.run_id, "loss")][-2:] == [(8, 2.0), (8, 7.5)]


def test_a_deleted_experiment_is_restored(tmp_path, caplog):
    with _open(tmp_path / "runs" / "first"):
        pass
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    client.delete_experiment(client.get_experiment_by_name("tests").experiment_id)
    with _open(tmp_path / "runs" / "second") as run:
        run.log_metrics({"loss": 1.0})
    assert client.get_run(run.run_id).data.metrics == {"loss": 1.0}
    assert client.get_experiment_by_name("tests").lifecycle_stage == "active"
    assert "experiment 'tests' had been deleted; it is restored" in caplog.text


def test_odd_values(root, client, caplog):
    odd = {"nul": "a\0b", "half": "a\ud83d", "huge": 10**5000, "emoji": "\U0001f622" * 7000, "none": None}
    numbers = {"huge": 10**400, "low": -(10**400), "nan": math.nan, "inf": math.inf, "fine": 1.0}
    numbers |= {"float32": np.float32(0.5), "int64": np.int64(3), "third": Fraction(1, 3), "complex": 1j, "bool": True}
    with _open(root / "odd", resolved=odd) as run:
        run.log_metrics(numbers, step=1)
        run.log_metrics({7: 7.0, "../up": 2.0, "fine": 2.0}, step=2)
        run.log_artifact(root / "no such file")
    done = client.get_run(run.run_id)
    assert done.info.status == "FINISHED"
    assert (done.data.params["nul"], done.data.params["half"], done.data.params["none"]) == ("a\ufffdb", "a?", "None")
    assert len(done.data.params["emoji"]) == 6000 and "cannot be written" in done.data.params["huge"]
    metrics = done.data.metrics
    assert metrics["huge"] == -metrics["low"] == metrics["inf"] > 1e308
    assert math.isnan(metrics["nan"])
    assert (metrics["fine"], metrics["float32"], metrics["int64"], metrics["7"]) == (2.0, 0.5, 3.0, 7.0)
    assert metrics["third"] == pytest.approx(1 / 3)
    assert not {"complex", "bool", "../up"} & set(metrics)
    assert "../up is left out of the metrics" in caplog.text and "no such file is gone" in caplog.text


def test_metrics_wait_for_a_store_that_comes_back(root, client, caplog):
    with _open(root / "outage") as run:
        with _broken(run):
            run.log_metrics({"loss": 3.0}, step=1)
            run.settle()
            run.log_metrics({"loss": 2.0}, step=2)  # within the pause: not even tried
        assert caplog.text.count("could not log metrics") == 1
        assert "next try in 30 s" in caplog.text
        run.log_metrics({"loss": 1.0}, step=3)
        run.settle()
    history = client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


@contextlib.contextmanager
def _broken(run):
    """Point a run at a store that refuses connections."""
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
    run.settle()
    working, run._delivery.client = run._delivery.client, MlflowClient(tracking_uri="http://127.0.0.1:1")
    yield
    run._delivery.client = working


def _open_in_own_process(output_dir):
    with _open(output_dir, pipeline="race") as run:
        return run.run_id


@pytest.mark.slow
def test_stages_started_at_once_in_an_empty_folder_share_one_parent(tmp_path):
    folders = [tmp_path / "runs" / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir(parents=True)
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        run_ids = list(pool.map(_open_in_own_process, folders))
    runs = _runs(MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db"))
    assert "" not in run_ids
    assert len(runs) == 4
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs if run.info.run_id in run_ids}) == 1


@pytest.fixture
def server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path)]
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, tmp_path / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url, process, log):
    for _ in range(480):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.25)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_real_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    report = tmp_path / "report.json"
    report.write_text("{}")
    with _open(tmp_path / "runs/epo") as run:
        run.log_metrics({"loss": 1.0}, step=1)
        run.log_artifact(report)
    client = MlflowClient(tracking_uri=server)
    done = client.get_run(run.run_id)
    assert (done.info.status, done.data.metrics, done.data.params) == ("FINISHED", {"loss": 1.0}, {"beta": "0.2"})
    assert [entry.path for entry in client.list_artifacts(run.run_id)] == ["report.json"]
    assert not (tmp_path / "runs/mlflow.db").exists()


@pytest.mark.slow
def test_a_server_that_never_answers_costs_seconds(tmp_path, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts, and says nothing
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        start_s = time.monotonic()
        with _open(tmp_path / "runs/epo") as run:
            opened_s = time.monotonic()
            run.log_metrics({"loss": 1.0})
            logged_s = time.monotonic()
    # Two seconds, nothing and ten are what is waited; the rest is for a machine that has other work.
    assert opened_s - start_s < 4 and logged_s - opened_s < 1 and time.monotonic() - logged_s < 20
    assert "this run is not tracked yet" in caplog.text


def test_runs_opened_outside_the_main_thread_leave_signals_alone(root, client):
    ids = []

    def body():
        with _open(root / "thread") as run:
            ids.append(run.run_id)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert client.get_run(ids[0]).info.status == "FINISHED"


def test_what_a_server_never_took_is_sent_after_the_run(root, client, monkeypatch, tmp_path):
    """Two attempts while it is down, the second of which repeats a step; then a sync, and one more for nothing."""
    folder, report = root / "sent later", tmp_path / "report.json"
    report.write_text('{"key": "hf_' + "a" * 30 + '"}')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    for steps, fault in (((1, 2, 3), KeyboardInterrupt), ((3, 4), None)):
        with contextlib.suppress(KeyboardInterrupt), _open(folder) as run:
            for step in steps:
                run.log_metrics({"loss": 10.0 - step}, step)
            if fault is not None:
                raise fault
            run.log_artifact(report)
    with pytest.raises(
        RecipeError, match=r"this run is not tracked yet \(.*see that http://127.0.0.1:1 can be reached"
    ):
        tracking.sync(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.sync(folder) > 0
    assert tracking.sync(folder) == 0
    run_id = (folder / "mlflow_run_id.txt").read_text().strip()
    history = client.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0)]
    done = client.get_run(run_id)
    assert (done.info.status, done.data.params["beta"], done.info.run_name) == ("FINISHED", "0.2", "epo")
    sent = root / "mlartifacts" / run_id / "artifacts/report.json"
    assert sent.read_text() == '{"key": "***"}'


def test_a_journal_is_sent_once_whatever_a_crash_left(root, client):
    """Half a last line, lines that were sent but not marked so, and a mark beyond the end."""
    folder = root / "crashed"
    with _open(folder) as run:
        run.log_metrics({"loss": 2.0}, 1)
    journal = folder / "tracking.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"kind": "metrics", "step": 2, "val')
    (folder / "tracking.sent").write_text("not json")
    with _open(folder) as run:
        run.log_metrics({"loss": 1.0}, 2)
    (folder / "tracking.sent").write_text('{"bytes": 99999999, "files": []}')
    assert tracking.sync(folder) > 0
    history = client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_no_credential_reaches_the_journal(root):
    with _open(root / "hush", resolved={"hub_token": "hush-hush", "note": "hf_" + "a" * 30}):
        pass
    text = (root / "hush/tracking.jsonl").read_text()
    assert "hush-hush" not in text and "hf_a" not in text and text.count("***") == 2


def test_sync_says_where_there_is_nothing_and_who_holds_a_folder(root, tmp_path):
    with pytest.raises(RecipeError, match=r"no tracking.jsonl there; name the output_dir of a stage"):
        tracking.sync(tmp_path)
    with _open(root / "held") as run, hold(root / "held"):
        run.settle()
        with pytest.raises(FolderInUseError, match="in use by process"):
            tracking.sync(root / "held")


def test_an_artifact_store_that_cannot_be_written_holds_nothing_else_up(root, client, monkeypatch, tmp_path, caplog):
    report = tmp_path / "report.json"
    report.write_text("{}")
    with monkeypatch.context() as patch, _open(root / "read only") as run:
        run.settle()

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        patch.setattr(MlflowClient, "log_artifact", refuse)
        run.log_artifact(report)
        run.log_metrics({"loss": 1.0}, 1)
        run.settle()
        assert client.get_metric_history(run.run_id, "loss")[0].value == 1.0
        run.finish("FINISHED")
    assert "could not log files (PermissionError" in caplog.text and "artifact folder writable" in caplog.text
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert tracking.sync(root / "read only") > 0
    assert [entry.path for entry in client.list_artifacts(run.run_id)] == ["report.json"]


def test_importing_tracking_imports_no_mlflow():
    code = "import sys, launch.tracking; print([m for m in ('mlflow', 'torch') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\[\]\s*", output)

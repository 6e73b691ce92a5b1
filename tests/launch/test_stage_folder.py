"""A stage's folder: done, gone on with, refused, begun anew; one writer; every attempt on record."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from launch.folder.folder_lock import FolderInUseError, hold
from launch.folder.provenance import read_attempts
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import StageRecipe
from launch.recipe import RecipeError, read_recipe

ROOT = Path(__file__).parents[2]


@dataclass(kw_only=True)
class Toy(StageRecipe):
    """A stage that writes one file."""

    data: str
    beta: float = field(default=0.1)
    save_steps: int = 5
    per_device_train_batch_size: int = 4


@pytest.fixture
def run(tmp_path):
    """Run the toy stage; returns whether it did anything."""
    (tmp_path / "d.jsonl").write_text("{}\n")

    def run(*flags, rewritten=None, body=None, out="out"):
        argv = ["--data", str(tmp_path / "d.jsonl"), *map(str, flags)]
        recipes = read_recipe([Toy], argv)
        with open_folder(tmp_path / out, recipes, argv, rewritten) as folder:
            if folder.is_done:
                return False
            if body is not None:
                body(folder.path)
            (folder.path / "model.safetensors").write_bytes(b"weights")
            (folder.path / "pairs.jsonl").write_text("{}\n")
            folder.finish({"loss": 1.0})
        return True

    return run


def stop(path):
    (path / "checkpoint-2").mkdir()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "record",
    ["[]", "3", '{"identity": {}}', '{"identity": {"settings": 1, "layout": {}, "defaults": {}, "inputs": {}}}'],
)
def test_a_record_that_somebody_edited_is_as_none(run, tmp_path, record):
    run()
    for name in ("stage.json", "identity.json"):
        (tmp_path / "out" / name).write_text(record)
    assert run(rewritten=["pairs.jsonl"])


@pytest.mark.parametrize("record", ["", "[1]", '"x"', '[{"started": "now"}]'])
def test_a_history_that_somebody_edited_is_named_and_kept(run, tmp_path, record):
    run()
    path = tmp_path / "out" / "provenance.json"
    path.write_text(record)
    with pytest.raises(RecipeError, match=rf"{path}: not a record of attempts .* move it elsewhere"):
        run("--beta", "0.2", rewritten=["pairs.jsonl"])
    assert path.read_text() == record


def test_a_finished_stage_is_not_run_again_and_a_skip_leaves_no_trace(run, tmp_path, capsys):
    assert run()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")}
    assert not run("--save_steps", 7, "--per_device_train_batch_size", 2, "--pipeline", "x")
    assert "already done, and nothing it was made from has changed" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")} == before
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["save_steps"] == 5


@pytest.mark.parametrize("rewritten", [None, ["pairs.jsonl"]])
def test_changed_data_is_named_and_nothing_is_lost(run, tmp_path, capsys, rewritten):
    run(rewritten=rewritten)
    (tmp_path / "d.jsonl").write_text('{"other": 1}\n')
    if rewritten is None:
        with pytest.raises(RecipeError, match=r"else \(data: .*d\.jsonl has changed\); give --fresh"):
            run()
        assert run("--fresh")
        kept = list(tmp_path.glob("out.replaced-*"))
        assert len(kept) == 1 and (kept[0] / "model.safetensors").read_bytes() == b"weights"
        assert str(kept[0]) in capsys.readouterr().out
        assert len(read_attempts(tmp_path / "out")) == 1
    else:
        assert run(rewritten=rewritten)
        assert "d.jsonl has changed; writing it anew" in capsys.readouterr().out
        assert [attempt["verdict"] for attempt in read_attempts(tmp_path / "out")] == ["done", "done"]
    assert not run(rewritten=rewritten)


def test_what_was_edited_by_hand_survives_a_rewriting(run, tmp_path, capsys):
    run(rewritten=["pairs.jsonl"])
    (tmp_path / "out" / "pairs.jsonl").write_text('{"mine": 1}\n')
    assert not run(rewritten=["pairs.jsonl"])  # an edited result is no changed input
    assert run("--beta", 0.2, rewritten=["pairs.jsonl"])
    kept = list((tmp_path / "out").glob("pairs.replaced-*.jsonl"))
    assert [path.read_text() for path in kept] == ['{"mine": 1}\n']
    assert "was edited since; a copy is kept as" in capsys.readouterr().out


def test_a_half_deleted_result_is_not_done(run, tmp_path):
    run()
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(RecipeError, match="model.safetensors is missing.*--fresh"):
        run()
    run("--fresh")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"wei")
    with pytest.raises(RecipeError, match="model.safetensors is cut off or replaced"):
        run()


def test_a_moved_result_is_still_done(run, tmp_path):
    run()
    (tmp_path / "out").rename(tmp_path / "moved")
    assert not run(out="moved")


def test_an_interrupted_run_goes_on_only_as_what_it_was(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(body=stop)
    assert [attempt["verdict"] for attempt in read_attempts(tmp_path / "out")] == ["ended by SIGINT"]
    with pytest.raises(RecipeError, match=r"made from something else \(beta: 0.1 -> 0.2\)"):
        run("--beta", 0.2)
    with pytest.raises(
        RecipeError,
        match=r"another layout \(per_device_train_batch_size: 4 -> 2\); go on in that layout, or",
    ):
        run("--per_device_train_batch_size", 2)
    assert run("--save_steps", 9)
    assert [attempt["verdict"] for attempt in read_attempts(tmp_path / "out")] == ["ended by SIGINT", "done"]


def test_a_run_that_kept_nothing_may_be_changed_freely(run):
    def fail(path):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        run(body=fail)
    assert run("--beta", 0.2)


def test_checkpoints_that_nothing_is_known_about_are_not_gone_on_with(run, tmp_path):
    (tmp_path / "out" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(RecipeError, match="nothing is known about the checkpoints in it"):
        run()


def test_every_attempt_says_what_it_was(run, tmp_path):
    def fail(path):
        (path / "checkpoint-1").mkdir()
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        run(body=fail)
    run()
    first, second = read_attempts(tmp_path / "out")
    assert (first["verdict"], second["verdict"]) == ("crash: RuntimeError: boom", "done")
    assert first["started"] <= first["ended"] <= second["started"]
    assert len(second["inputs"]["data"]["content"]) == 64 and second["versions"]["torch"]


def test_a_second_start_is_told_who_is_there(run, tmp_path):
    def start_again(path):
        code = (
            "from pathlib import Path; from launch.folder.folder_lock import hold; "
            f"hold(Path({str(path)!r})).__enter__()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert "FolderInUseError" in done.stderr and f"in use by process {os.getpid()} on" in done.stderr

    assert run(body=start_again)


def test_a_lock_ends_with_its_holder_however_it_ends(tmp_path):
    code = (
        "import time; from pathlib import Path; from launch.folder.folder_lock import hold\n"
        f"with hold(Path({str(tmp_path)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(FolderInUseError, match=f"process {holder.pid} on .*; wait until it has ended, or end it"),
        hold(tmp_path),
    ):
        pass
    holder.kill()
    holder.wait()
    with hold(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] != holder.pid
    assert (tmp_path / ".lock").read_text() == "{}"


def test_a_sign_of_life_from_another_machine_is_a_lock(tmp_path, monkeypatch):
    note = {"host": "elsewhere", "pid": 1, "job": "7", "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / ".lock").write_text(json.dumps(note))
    with pytest.raises(FolderInUseError, match="process 1 on elsewhere, job 7"), hold(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # requeued onto this machine
    with hold(tmp_path):
        pass
    monkeypatch.delenv("SLURM_JOB_ID")
    (tmp_path / ".lock").write_text(json.dumps(note))
    old_s = time.time() - 3600
    os.utime(tmp_path / ".lock", (old_s, old_s))
    with hold(tmp_path):
        pass

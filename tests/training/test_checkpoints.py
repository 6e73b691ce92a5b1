"""Checkpoints are whole or none: whatever is damaged or full, a run goes on from the newest whole one, bit by bit."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from compressor import stopping
from compressor.checkpoints import checkpoint_commit
from compressor.checkpoints.checkpoint_commit import (
    CheckpointError,
    facts_of,
    keep_newest,
    last_checkpoint,
    newest_whole,
)
from compressor.checkpoints.training_states import StateError, kept_state, read_state, write_state
from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.stopping import SIGNALS
from launch.processes.ends import explain
from launch.training import fit

STEPS = 6


class NetTrainer(ScheduledTrainer):
    def loss_terms(self, model, inputs):
        loss = model(inputs["x"]).square().mean()
        return {"loss": loss, "half": loss / 2}


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def make(folder, stop=0, **changes):
    """Build a trainer whose dropout draws from torch's global generator, which a checkpoint must restore."""
    settings = {
        "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 0.05, "logging_steps": 1,
        "save_steps": 2, "report_to": "none", "use_cpu": True, "remove_unused_columns": False, "disable_tqdm": True,
        "lr_scheduler_type": "cosine",
    }  # fmt: skip
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    return NetTrainer(
        model=model, args=TrainingArguments(output_dir=str(folder), **(settings | changes)),
        train_dataset=ScheduledDataset(5, 2 * STEPS, seed=0),
        data_collator=lambda rows: {"x": torch.tensor([[1.0, row["index"], row["seed"] % 5] for row in rows])},
        callbacks=[StopAt(stop)],
    )  # fmt: skip


def weights(folder):
    trainer = make(folder)
    fit(trainer)
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def equal(ours, theirs):
    return all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped at its fourth step, with two checkpoints."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    fit(make(folder, stop=4))
    return folder


@pytest.fixture
def interrupted(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


FILES = (
    "manifest.json", "model.safetensors", "optimizer.safetensors", "random_0.safetensors", "scheduler.safetensors",
    "trainer_state.json",
)  # fmt: skip


def test_a_checkpoint_holds_these_files_and_no_pickle(stopped):
    assert sorted(path.name for path in (stopped / "checkpoint-4").iterdir()) == list(FILES)
    assert sorted(path.name for path in stopped.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    manifest = json.loads((stopped / "checkpoint-4/manifest.json").read_text())
    assert sorted(manifest["files"]) == list(FILES[1:])
    assert facts_of(stopped / "checkpoint-4") == {
        "format": 1, "step": 4, "ranks": 1, "sharding": "none", "is_weights_only": False,
    }  # fmt: skip


def test_a_run_that_goes_on_equals_one_that_was_never_stopped(interrupted, undisturbed, capsys):
    assert equal(weights(interrupted), undisturbed)
    assert f"resuming from {interrupted}/checkpoint-4\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("harm", "fault"),
    [(flip, r"is damaged"), (cut, r"is (cut off or replaced \(\d+ bytes, want \d+\)|damaged)")],
    ids=["flipped", "cut"],
)
def test_each_file_damaged_in_turn(interrupted, undisturbed, capsys, name, harm, fault):
    harm(interrupted / "checkpoint-4" / name)
    if name == "manifest.json" and newest_whole(interrupted).path == interrupted / "checkpoint-4":
        return  # the byte stood in a fact, or was the newline at the end
    capsys.readouterr()
    if name != "manifest.json":
        assert equal(weights(interrupted), undisturbed)
        said = capsys.readouterr().out
        assert re.search(rf"checkpoint-4: {name} {fault}.*; it is kept as damaged-checkpoint-4; trying the one", said)
        assert f"resuming from {interrupted}/checkpoint-2\n" in said
    assert (interrupted / "damaged-checkpoint-4" / name).is_file()


@pytest.mark.parametrize("name", FILES)
def test_each_file_missing_in_turn(interrupted, undisturbed, capsys, name):
    (interrupted / "checkpoint-4" / name).unlink()
    assert equal(weights(interrupted), undisturbed)
    assert f"checkpoint-4: {name} is missing; it is kept as damaged-checkpoint-4" in capsys.readouterr().out


def test_with_no_whole_checkpoint_it_starts_over_and_loses_nothing(interrupted, undisturbed):
    for step in (2, 4):
        cut(interrupted / f"checkpoint-{step}" / "optimizer.safetensors")
    assert equal(weights(interrupted), undisturbed)
    kept = sorted(path.name for path in interrupted.iterdir())
    assert kept == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "damaged-checkpoint-2", "damaged-checkpoint-4"]


def test_what_a_save_left_behind_and_folders_of_the_user_are_no_checkpoints(interrupted):
    for name in (".saving/checkpoint-9", "checkpoint-best", "checkpoint-4.bak", "damaged-checkpoint-8"):
        shutil.copytree(interrupted / "checkpoint-4", interrupted / name)
    assert newest_whole(interrupted).path == last_checkpoint(interrupted) == interrupted / "checkpoint-4"


def test_the_limit_counts_only_what_is_whole(interrupted):
    cut(interrupted / "checkpoint-4" / "optimizer.safetensors")
    fit(make(interrupted, save_total_limit=1, stop=4))
    assert sorted(path.name for path in interrupted.iterdir()) == ["checkpoint-4", "damaged-checkpoint-4"]
    assert newest_whole(interrupted).notes == ()
    keep_newest(interrupted, None)
    assert last_checkpoint(interrupted) == interrupted / "checkpoint-4"


def test_a_save_that_fails_leaves_the_ones_before_it(interrupted, undisturbed, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    trainer = make(interrupted, save_total_limit=1)
    monkeypatch.setattr(trainer, "_save_rng_state", fail)
    with pytest.raises(OSError, match="No space"):
        fit(trainer)
    assert newest_whole(interrupted).path == interrupted / "checkpoint-4"
    assert equal(weights(interrupted), undisturbed)
    assert not (interrupted / ".saving").exists()


def test_a_full_disk_leaves_the_ones_before_it(tmp_path):
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        fit(make(disk / "run", stop=2))
        (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 4096))
        with pytest.raises((OSError, RuntimeError, SafetensorError)) as full:
            make(disk / "run").train(resume_from_checkpoint=str(disk / "run/checkpoint-2"))
        assert "the disk is full" in explain(full.value)
        assert newest_whole(disk / "run").path == disk / "run/checkpoint-2"
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_checkpoint_of_an_older_version_is_gone_on_from(stopped, tmp_path, undisturbed, capsys):
    """As transformers writes it: pickles, and no manifest."""
    from transformers import Trainer

    run = make(tmp_path / "run", stop=4)
    run._save_optimizer_and_scheduler = lambda folder: Trainer._save_optimizer_and_scheduler(run, folder)
    run._save_rng_state = lambda folder: Trainer._save_rng_state(run, folder)
    run._save_checkpoint = lambda model, trial: Trainer._save_checkpoint(run, model, trial)
    fit(run)
    assert (tmp_path / "run/checkpoint-4/optimizer.pt").is_file()
    assert equal(weights(tmp_path / "run"), undisturbed)
    assert "checkpoint-4: of an older version, without a manifest, so its files were not" in capsys.readouterr().out


def test_weights_alone_are_nothing_to_go_on_from(tmp_path, undisturbed, capsys):
    fit(make(tmp_path / "run", stop=2, save_only_model=True))
    assert equal(weights(tmp_path / "run"), undisturbed)
    assert "checkpoint-2: holds weights alone (save_only_model)" in capsys.readouterr().out


def test_a_checkpoint_that_is_spread_otherwise_is_refused(interrupted):
    path = interrupted / "checkpoint-4/manifest.json"
    path.write_text(path.read_text().replace('"sharding": "none"', '"sharding": "zero-2"'))
    with pytest.raises(CheckpointError, match=r"written by 1 ranks with sharding zero-2, and this run has 1 with none"):
        fit(make(interrupted))


def slow_disk(monkeypatch, name, wait):
    """Let the files of one checkpoint reach the disk only after `wait` has returned."""
    sync = checkpoint_commit._sync

    def slow(path):
        if path.parent.name == name:
            wait()
        sync(path)

    monkeypatch.setattr(checkpoint_commit, "_sync", slow)


class CallAt(TrainerCallback):
    def __init__(self, step, call):
        self.step, self.call = step, call

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.call()


def test_training_goes_on_during_a_save_and_a_kill_then_costs_only_that_one(tmp_path, undisturbed, monkeypatch):
    """The save of step 4 waits for the end of step 5, which never comes where training waits for the save."""
    run, killed, is_seen = tmp_path / "run", tmp_path / "killed", threading.Event()
    slow_disk(monkeypatch, "checkpoint-4", lambda: is_seen.wait(20) or pytest.fail("training waits for the disk"))

    def look():
        shutil.copytree(run, killed)  # what SIGKILL would leave
        is_seen.set()

    trainer = make(run, save_total_limit=1)
    trainer.add_callback(CallAt(5, look))
    fit(trainer)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-6"]
    assert equal(trainer.model.state_dict(), undisturbed)
    assert sorted(path.name for path in killed.iterdir()) == [".saving", "checkpoint-2"]
    assert (killed / ".saving/checkpoint-4/model.safetensors").is_file()
    assert not equal(load_file(killed / ".saving/checkpoint-4/model.safetensors"), undisturbed)
    assert newest_whole(killed).path == killed / "checkpoint-2"
    assert equal(weights(killed), undisturbed)


def test_what_the_disk_refuses_during_a_save_ends_training_in_one_line(tmp_path, undisturbed, monkeypatch):
    def refuse():
        raise OSError(28, "No space left on device")

    run = tmp_path / "run"
    slow_disk(monkeypatch, "checkpoint-4", refuse)
    trainer = make(run, save_total_limit=1)
    with pytest.raises(OSError) as full:
        fit(trainer)
    assert trainer.state.global_step in (5, 6) and "the disk is full" in explain(full.value)
    monkeypatch.undo()
    assert newest_whole(run).path == run / "checkpoint-2"
    assert equal(weights(run), undisturbed)


def test_a_save_is_finished_though_something_else_ends_training(tmp_path, monkeypatch):
    def fail():
        raise RuntimeError("no batch")

    slow_disk(monkeypatch, "checkpoint-2", lambda: time.sleep(0.1))
    trainer = make(tmp_path / "run")
    trainer.add_callback(CallAt(3, fail))
    with pytest.raises(RuntimeError, match="no batch"):
        fit(trainer)
    assert newest_whole(tmp_path / "run").path == tmp_path / "run/checkpoint-2"


class SignalAt(TrainerCallback):
    def __init__(self, step, number, times=1):
        self.step, self.number, self.times = step, number, times

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_the_step_it_came_in_and_stops(tmp_path, undisturbed, number, capsys):
    before = signal.getsignal(number)
    trainer = make(tmp_path / "run", save_steps=100)
    trainer.callback_handler.callbacks.insert(0, SignalAt(3, number))
    with pytest.raises(SystemExit) as ended:
        fit(trainer)
    assert ended.value.code == 128 + number and signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-3"]
    assert f"{number.name}: stopped after step 3; the same command goes on" in capsys.readouterr().out
    assert equal(weights(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize(("seconds", "saved"), [(5.0, ["checkpoint-1"]), (-1.0, [])])
def test_a_second_signal_later_ends_at_once(tmp_path, monkeypatch, seconds, saved):
    monkeypatch.setattr(stopping, "_SAME_SIGNAL_S", seconds)
    trainer, before = make(tmp_path / "run"), signal.getsignal(signal.SIGTERM)
    trainer.callback_handler.callbacks.insert(0, SignalAt(1, signal.SIGTERM, times=2))
    with pytest.raises(SystemExit):
        fit(trainer)
    assert [path.name for path in (tmp_path / "run").glob("*")] == saved
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_saves_nothing_where_nothing_is_to_be_saved(tmp_path):
    trainer = make(tmp_path / "never", save_strategy="no")
    trainer.callback_handler.callbacks.insert(0, SignalAt(1, signal.SIGTERM))
    with pytest.raises(SystemExit):
        fit(trainer)
    assert not (tmp_path / "never").exists() or not list((tmp_path / "never").glob("*"))


def test_states_come_back_as_they_were(tmp_path):
    shared = torch.arange(4.0)
    state = {"a": {0: shared, "b": (1, 2.5, None, [True, "text"])}, "same": shared, "nan": float("inf"), "none": {}}
    write_state(tmp_path / "s.safetensors", state)
    read = read_state(tmp_path / "s.safetensors")
    assert read["a"][0].equal(shared) and read["same"].equal(shared)
    assert read["a"]["b"] == (1, 2.5, None, [True, "text"]) and read["nan"] == float("inf") and read["none"] == {}
    with pytest.raises(StateError, match="holds a Linear, want tensors and plain data"):
        write_state(tmp_path / "t.safetensors", {"layer": nn.Linear(1, 1)})
    assert not (tmp_path / "t.safetensors").exists()


def test_a_kept_state_is_that_of_the_moment(tmp_path):
    moment = torch.ones(2)
    write = kept_state(tmp_path / "s.safetensors", {"moment": moment})
    moment.add_(1)
    write()
    assert read_state(tmp_path / "s.safetensors")["moment"].tolist() == [1.0, 1.0]

"""Two ranks stop and go on, plain and under ZeRO; one rank, and three, go on from what they wrote."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import checkpoint_rank
import pytest
import resharded_rank

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def launch(config, *arguments):
    """Run two ranks as users start a stage, and return what rank 0 wrote down."""
    start([config], "checkpoint_rank.py", *arguments)
    return json.loads(Path(arguments[1]).read_text())


def start(launcher, script, *arguments):
    """Run ranks by accelerate, whose configuration's name and further words are given."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        ROOT / "launch/accelerate" / launcher[0],
    ]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = (*command, *launcher[1:], Path(__file__).with_name(script), *arguments)
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr[-4000:]


def alone(*arguments):
    """Run one process, this one, and return what it wrote down."""
    checkpoint_rank.main(*(str(argument) for argument in arguments[:2]), *arguments[2:])
    return json.loads(Path(arguments[1]).read_text())


def flat(value):
    return [number for item in value for number in flat(item)] if isinstance(value, list) else [value]


def gap(ours, theirs):
    """Return the largest distance of a weight."""
    pairs = ((flat(ours["weights"][name]), flat(theirs["weights"][name])) for name in theirs["weights"])
    return max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return alone(folder / "run", folder / "found.json")


@pytest.mark.parametrize("config", ["zero2-cpu.yaml", "zero3-cpu.yaml"])
def test_sharded_ranks_go_on_from_the_newest_whole_checkpoint(tmp_path, undisturbed, config):
    """The newest one lost a rank's part of the optimizer; it cannot be gone on from without sharding."""
    launch(config, tmp_path / "run", tmp_path / "first.json", 4)
    newest = tmp_path / "run/checkpoint-4"
    manifest = json.loads((newest / "manifest.json").read_text())
    assert (manifest["ranks"], manifest["sharding"]) == (2, f"zero-{config[4]}")
    assert sum("optim_states" in name for name in manifest["files"]) == 2
    next(newest.glob("*/*rank_1*optim_states.pt")).unlink()
    second = launch(config, tmp_path / "run", tmp_path / "second.json")
    assert "optim_states.pt is missing; it is kept as damaged-checkpoint-4" in second["said"]
    assert f"resuming from {tmp_path}/run/checkpoint-2\n" in second["said"]
    assert second["step"] == 6 and gap(second, undisturbed) < 1e-6
    shutil.rmtree(tmp_path / "run/checkpoint-6")
    refused = alone(tmp_path / "run", tmp_path / "third.json")
    assert "checkpoint-4: was written by 2 ranks with sharding zero-" in refused["refusal"]


def test_a_plain_checkpoint_of_two_ranks_goes_on_in_one_process(tmp_path, undisturbed):
    """They stopped in a step without a regular save, because one of them was signalled."""
    first = launch("cpu.yaml", tmp_path / "run", tmp_path / "first.json", 5, int(signal.SIGTERM))
    assert (first["step"], first["refusal"]) == (5, "143")
    second = alone(tmp_path / "run", tmp_path / "second.json")
    assert f"resuming from {tmp_path}/run/checkpoint-5\n" in second["said"]
    assert second["step"] == 6 and gap(second, undisturbed) < 1e-6


SHARDINGS = {
    "ZeRO-1": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
    "ZeRO-2": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "ZeRO-3": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "offloaded": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    | {f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE": "cpu" for what in ("OPTIMIZER", "PARAM")},
}
ON_DEVICE = {f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE": "none" for what in ("OPTIMIZER", "PARAM")}
PATHS = [
    ("ZeRO-2", "ZeRO-2", "ZeRO-2"), ("ZeRO-3", "ZeRO-3", "ZeRO-3"), ("ZeRO-1", "ZeRO-3", "ZeRO-1"),
    ("offloaded", "offloaded", "ZeRO-2"),
]  # fmt: skip
"""How a run is sharded on two ranks, then on one, then on three."""


def test_what_zero_spread_goes_on_on_other_ranks_and_in_other_stages(tmp_path, monkeypatch):
    """Two ranks stop after step 2, one goes on to 4 and three to 6; each launch does so for all paths."""
    monkeypatch.setattr(checkpoint_rank, "BATCH", 6)
    monkeypatch.setattr(checkpoint_rank, "make_network", resharded_rank.Network)
    wanted = alone(tmp_path / "alone", tmp_path / "alone.json")
    folders = [tmp_path / "-".join(path) for path in PATHS]
    for turn, ranks in enumerate((2, 1, 3)):
        runs = [
            [
                [str(folder), f"{folder}-{turn}.json", *([2 * turn + 2] if turn < 2 else [])],
                ON_DEVICE | SHARDINGS[path[turn]], turn == 0,
            ]
            for folder, path in zip(folders, PATHS, strict=True)
        ]  # fmt: skip
        launcher = ["zero3-cpu.yaml", "--num_processes", ranks, "--main_process_port", "0"]
        start(launcher, "resharded_rank.py", json.dumps(runs))
        for folder, path in zip(folders, PATHS, strict=True):
            found = json.loads(Path(f"{folder}-{turn}.json").read_text())
            assert (found["refusal"], found["step"]) == ("", 2 * turn + 2), path
            assert turn == 0 or f"resuming from {folder}/checkpoint-{2 * turn}\n" in found["said"]
    for folder, path in zip(folders, PATHS, strict=True):
        found = json.loads(Path(f"{folder}-2.json").read_text())
        assert gap(found, wanted) < 1e-6, path

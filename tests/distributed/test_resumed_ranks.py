"""Ranks stop and go on: plain, under ZeRO-2, ZeRO-3 and FSDP2; others go on from what they wrote."""

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
import torch.multiprocessing as mp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def launch(config, *arguments):
    """Run two ranks as users start a stage, and return what rank 0 wrote down."""
    start([config], "checkpoint_rank.py", *arguments)
    return json.loads(Path(arguments[1]).read_text())


def start(launcher, script, *arguments):
    """Run ranks by accelerate, whose configuration's name and further words are given."""
    config = ROOT / "launch/accelerate" / launcher[0]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
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


SHARDINGS = {
    "zero-1": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
    "zero-2": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero-3": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "offloaded": {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    | {f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE": "cpu" for what in ("OPTIMIZER", "PARAM")},
}
ON_DEVICE = {f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE": "none" for what in ("OPTIMIZER", "PARAM")}
PATHS = [
    ("zero-2", "zero-2", "zero-2"), ("zero-3", "zero-3", "zero-3"), ("zero-1", "zero-3", "zero-1"),
    ("offloaded", "offloaded", "zero-2"),
]  # fmt: skip
"""How a run is sharded on two ranks, then on one, then on three."""


def go_on(num_ranks, runs, is_new=False):
    """Run folders in their shardings, one after another in one launch, until a step; returns what came of each."""
    rows = [
        ([str(folder), f"{folder}-{num_ranks}.json", step], ON_DEVICE | SHARDINGS[sharding], is_new)
        for folder, sharding, step in runs
    ]
    launcher = ["zero3-cpu.yaml", "--num_processes", num_ranks, "--main_process_port", "0"]
    start(launcher, "resharded_rank.py", json.dumps(rows))
    return [json.loads(Path(result).read_text()) for (_, result, _), *_ in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return alone(folder / "run", folder / "found.json")


@pytest.fixture(scope="module")
def undisturbed_network(tmp_path_factory):
    """What one process makes of what the ranks of resharded_rank.py train."""
    folder = tmp_path_factory.mktemp("network")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_rank, "BATCH", 6)
        patch.setattr(checkpoint_rank, "make_network", resharded_rank.Network)
        return alone(folder / "run", folder / "found.json")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Folders of runs, one of each path, that two ranks stopped after step 4; copies are free to be changed."""
    folders = [tmp_path_factory.mktemp("sharded") / "-".join(path) for path in PATHS]
    go_on(2, [(folder, path[0], 4) for folder, path in zip(folders, PATHS, strict=True)], is_new=True)

    def copy(to):
        return [shutil.copytree(folder, to / folder.name) for folder in folders]

    return copy


def test_sharded_ranks_go_on_from_the_newest_whole_checkpoint(tmp_path, sharded, undisturbed_network):
    """The newest one lost a rank's part of the optimizer; it cannot be gone on from without sharding."""
    folders = sharded(tmp_path)[:2]
    for folder, sharding in zip(folders, ("zero-2", "zero-3"), strict=True):
        newest = folder / "checkpoint-4"
        manifest = json.loads((newest / "manifest.json").read_text())
        assert (manifest["ranks"], manifest["sharding"]) == (2, sharding)
        assert sum("optim_states" in name for name in manifest["files"]) == 2
        next(newest.glob("*/*rank_1*optim_states.pt")).unlink()
    for folder, second in zip(folders, go_on(2, [(folder, folder.name[:6], 0) for folder in folders]), strict=True):
        assert "optim_states.pt is missing; it is kept as damaged-checkpoint-4" in second["said"]
        assert f"resuming from {folder}/checkpoint-2\n" in second["said"]
        assert second["step"] == 6 and gap(second, undisturbed_network) < 1e-6
        shutil.rmtree(folder / "checkpoint-6")
        refused = alone(folder, tmp_path / "third.json")
        assert "checkpoint-4: was written by 2 ranks with sharding zero-" in refused["refusal"]


def test_what_zero_spread_goes_on_on_other_ranks_and_in_other_stages(tmp_path, sharded, undisturbed_network):
    """Of what two ranks wrote after step 2 one goes on to step 4, and three to 6."""
    folders = sharded(tmp_path)
    for folder in folders:
        shutil.rmtree(folder / "checkpoint-4")
    for num_ranks, turn, step in ((1, 1, 4), (3, 2, 0)):
        runs = [(folder, path[turn], step) for folder, path in zip(folders, PATHS, strict=True)]
        for folder, found in zip(folders, go_on(num_ranks, runs), strict=True):
            assert (found["refusal"], found["step"]) == ("", step or 6), folder
            assert f"resuming from {folder}/checkpoint-{2 * turn}\n" in found["said"]
            assert step or gap(found, undisturbed_network) < 1e-6, folder


def test_ranks_under_fsdp2_go_on_without_a_pickle(tmp_path, undisturbed):
    """The newest checkpoint lost a rank's rows of the weights; one process cannot take another up as its own."""
    import rank_bodies

    mp.spawn(rank_bodies.start, (rank_bodies.stop_and_go_on_sharded, str(tmp_path / "store"), 2, (str(tmp_path),)), 2)
    names, manifest = json.loads((tmp_path / "found.json").read_text())
    manifest = json.loads(manifest)
    assert (manifest["ranks"], manifest["sharding"]) == (2, "fsdp2")
    assert {"weights_0.safetensors", "weights_1.safetensors", "optimizer_1.safetensors"} <= manifest["files"].keys()
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    whole, gone_on = (json.loads((tmp_path / f"{run}-0.json").read_text()) for run in ("undisturbed", "stopped"))
    assert "weights_1.safetensors is missing; it is kept as damaged-checkpoint-4" in gone_on["said"]
    assert f"resuming from {tmp_path}/stopped/checkpoint-2\n" in gone_on["said"]
    assert gone_on["step"] == 6 and gone_on["weights"] == whole["weights"]  # to the bit
    assert gap(whole, undisturbed) < 1e-6
    refused = alone(tmp_path / "stopped", tmp_path / "third.json")
    assert (
        "checkpoint-6: was written by 2 ranks with sharding fsdp2, and this run has 1 with none" in refused["refusal"]
    )


def test_a_plain_checkpoint_of_two_ranks_goes_on_in_one_process(tmp_path, undisturbed):
    """They stopped in a step without a regular save, because one of them was signalled."""
    first = launch("cpu.yaml", tmp_path / "run", tmp_path / "first.json", 5, int(signal.SIGTERM))
    assert (first["step"], first["refusal"]) == (5, "143")
    second = alone(tmp_path / "run", tmp_path / "second.json")
    assert f"resuming from {tmp_path}/run/checkpoint-5\n" in second["said"]
    assert second["step"] == 6 and gap(second, undisturbed) < 1e-6

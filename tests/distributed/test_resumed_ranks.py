"""Two ranks stop and go on, plain, under ZeRO-2, ZeRO-3 and FSDP2; a plain checkpoint goes on in one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import checkpoint_rank
import pytest
import torch.multiprocessing as mp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def launch(config, *arguments):
    """Run two ranks as users start a stage, and return what rank 0 wrote down."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", ROOT / "launch/accelerate" / config]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    script = Path(__file__).with_name("checkpoint_rank.py")
    done = subprocess.run(
        [str(word) for word in (*command, script, *arguments)], capture_output=True, text=True, timeout=300,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(Path(arguments[1]).read_text())


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
    """The newest one lost a rank's part of the optimizer; its number of ranks cannot change."""
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

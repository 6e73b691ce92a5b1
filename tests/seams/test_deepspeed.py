"""What accelerate and DeepSpeed do with a model that ZeRO-3 spreads over two ranks, and TRL when it is put together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from compressor.checkpoint_commit import CheckpointError
from compressor.deepspeed_states import read_deepspeed_states_safely

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two ranks wrote down, started by accelerate with weights sharded however small they are."""
    folder = tmp_path_factory.mktemp("zero3")
    zero = {"stage": 3, "stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
    zero["offload_optimizer"] = {"device": "cpu"}
    settings = {"zero_optimization": zero, "train_micro_batch_size_per_gpu": "auto", "train_batch_size": "auto"}
    settings |= {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    config = yaml.safe_load((ROOT / "launch/accelerate/zero3-cpu.yaml").read_text())
    del config["mixed_precision"]  # accelerate refuses it beside a file of DeepSpeed's
    config["deepspeed_config"] = {"deepspeed_config_file": str(folder / "deepspeed.json"), "zero3_init_flag": False}
    (folder / "accelerate.yaml").write_text(yaml.safe_dump(config))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / "accelerate.yaml")]
    script = [str(Path(__file__).with_name("zero3_rank.py")), str(folder)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*launch, *script], capture_output=True, text=True, timeout=300, env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.seam("use_deepspeed")
def test_ranks_are_told_of_deepspeed(ranks):
    assert [rank["use_deepspeed"] for rank in ranks] == ["true", "true"]


@pytest.mark.seam("shm_operator")
def test_the_operator_is_not_built(ranks):
    assert [rank["operator"] for rank in ranks] == [False, False]


@pytest.mark.seam("muon")
def test_muon_is_imported_without_torchs_compiler(ranks):
    assert [rank["muon"] for rank in ranks] == [["imported"], ["imported"]]


@pytest.mark.seam("offloaded_optimizer")
def test_an_optimizer_whose_states_are_offloaded_stays(ranks):
    """Where it is replaced, DeepSpeed's Adam is compiled."""
    assert [rank["optimizer"] for rank in ranks] == ["AdamW", "AdamW"]


@pytest.mark.seam("deepspeed_config")
def test_a_model_is_loaded_whole_and_sharded_by_the_trainer(ranks):
    for rank in ranks:
        assert rank["size_loaded"] > 3000 and rank["size_trained"] == 0


@pytest.mark.seam("leaf_modules")
def test_a_mixer_is_gathered_as_one_and_trains(ranks):
    assert ranks[0]["size_at_first_call"] == ranks[0]["size_mixer"] > 1000
    assert ranks[0]["mixer_moved"]


@pytest.mark.seam("state_dict")
def test_rank_zero_gets_all_weights_and_the_other_none(ranks):
    assert [rank["raw_state_is_none"] for rank in ranks] == [False, True]
    assert ranks[0]["state"]["backbone.layers.1.mixer.out_proj.weight"] == [16, 32] and ranks[1]["state"] == {}


@pytest.mark.seam("step_hook")
def test_the_last_hook_can_be_removed(ranks):
    assert [(rank["hook_is_set"], rank["hook_is_left"]) for rank in ranks] == [(True, False)] * 2


@pytest.mark.seam("unwrap_for_generation")
def test_one_rank_alone_generates_with_all_weights(ranks):
    assert [rank["size_whole"] for rank in ranks] == [rank["size_loaded"] for rank in ranks]
    assert ranks[0]["generated"] == 6 and "generated" not in ranks[1]


@pytest.mark.seam("engine_load")
def test_a_checkpoint_of_deepspeeds_is_read_without_executing_what_it_names(tmp_path, monkeypatch):
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from deepspeed.runtime.fp16.loss_scaler import LossScaler

    theirs = TorchCheckpointEngine.load
    monkeypatch.setattr(TorchCheckpointEngine, "load", theirs)  # put back at the end
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    read_deepspeed_states_safely()
    torch.save({"scale": LossScaler(2.0), "a": torch.ones(2)}, tmp_path / "fine.pt")
    read = TorchCheckpointEngine().load(str(tmp_path / "fine.pt"), map_location="cpu")
    assert read["scale"].cur_scale == 2.0 and read["a"].tolist() == [1.0, 1.0]
    torch.save({"bad": os.system}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"bad.pt: names code that no checkpoint .* needs \(posix.system\)"):
        TorchCheckpointEngine().load(str(tmp_path / "bad.pt"))
    with pytest.raises(Exception, match="Weights only load failed"):
        theirs(TorchCheckpointEngine(), str(tmp_path / "bad.pt"))

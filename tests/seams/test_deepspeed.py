"""What accelerate and DeepSpeed do with a model that ZeRO-3 spreads over two ranks, and TRL when it is put together."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from compressor.checkpoints.checkpoint_commit import CheckpointError
from compressor.checkpoints.deepspeed_states import admit_deepspeeds_classes, read_deepspeed_states_safely
from compressor.checkpoints.saved_shards import SavedShards, sizes_of
from compressor.checkpoints.shards import spread, whole_buffer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def zero3_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("zero3")


@pytest.fixture(scope="module")
def ranks(zero3_folder):
    """What two ranks wrote down, started by accelerate with weights sharded however small they are."""
    folder = zero3_folder
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


def test_what_was_not_trained_is_whole_on_each_rank(ranks):
    for rank in ranks:
        assert rank["size_untrained"] == rank["size_loaded"] and rank["untrained"] == ranks[0]["state"]


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


@pytest.mark.seam("zero_files")
def test_the_files_of_a_checkpoint_say_what_lies_where(ranks, zero3_folder):
    admit_deepspeeds_classes()
    saved = SavedShards(zero3_folder / "saved", 2)
    name = "backbone.layers.0.mixer.conv1d.weight"
    weight = torch.tensor(ranks[0]["weight"])
    assert saved.shapes[name] == tuple(weight.shape) and list(saved.counts) == ranks[0]["counts"]
    assert saved.masters().fill(whole_buffer(name, weight.numel())).equal(weight.flatten())
    alike, cut = saved.states(saved.group_of[name])
    assert alike["step"].item() == 1 and cut.keys() == {"exp_avg", "exp_avg_sq"}


@pytest.mark.seam("zero_optimizers")
def test_the_optimizers_say_what_lies_in_their_masters(ranks):
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    for number, rank in enumerate(ranks):
        assert rank["lengths"] == [spread(3, sizes_of(shapes), number, 2).length for shapes in rank["shapes"]]
        assert rank["groups"] == [[0, 0], [1, 1]]
    words = {"state_dict_list", "load_optimizer_states", "load_from_fp32_weights"}
    for kind in (DeepSpeedZeroOptimizer, DeepSpeedZeroOptimizer_Stage3):
        assert words <= inspect.signature(kind.load_state_dict).parameters.keys()
    assert list(inspect.signature(DeepSpeedZeroOptimizer.update_lp_params).parameters) == ["self"]
    source = inspect.getsource(DeepSpeedZeroOptimizer)
    assert "self.single_partition_of_fp32_groups" in source and "self.round_robin_bit16_padding" in source


@pytest.mark.seam("zero_layouts")
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_deepspeeds_own_reader_joins_what_we_cut(num_ranks):
    from deepspeed.utils import zero_to_fp32

    shapes = {"a": torch.Size([5]), "b": torch.Size([2, 2])}
    flat = {"a": torch.arange(1.0, 6.0), "b": torch.arange(6.0, 10.0)}
    parts = {}
    for stage in (2, 3):
        buffers = [spread(stage, sizes_of(shapes), rank, num_ranks) for rank in range(num_ranks)]
        parts[stage] = [[torch.zeros(buffer.length)] for buffer in buffers]
        for buffer, (part,) in zip(buffers, parts[stage], strict=True):
            for piece in buffer.pieces:
                part[piece.offset :][: piece.length] = flat[piece.name][piece.start :][: piece.length]
    model = zero_to_fp32.zero_model_state({}, [shapes], [], "", None, None)
    joined = [
        zero_to_fp32._get_fp32_state_dict_from_zero2_checkpoint(num_ranks, parts[2], [model], True),
        zero_to_fp32._get_fp32_state_dict_from_zero3_checkpoint(num_ranks, parts[3], [model], True),
    ]
    for state in joined:
        for name, numbers in flat.items():
            assert state[name].contiguous().flatten().equal(numbers)


@pytest.mark.seam("load_checkpoint")
def test_an_engine_loads_by_one_method_and_counts_this(ranks):
    from deepspeed import DeepSpeedEngine

    assert list(inspect.signature(DeepSpeedEngine.load_checkpoint).parameters)[:2] == ["self", "load_dir"]
    source = inspect.getsource(DeepSpeedEngine._load_checkpoint)
    assert {name for name in re.findall(r"self\.(global_\w+|skipped_\w+|micro_\w+) = ", source)} == {
        "global_steps", "global_samples", "skipped_steps",
    }  # fmt: skip
    assert "return load_path, client_state" in source
    assert ranks[0]["counts"] == [1, 2, 0]


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

"""A checkpoint of two ranks, written by hand, goes into engines of other ranks and stages, or is refused."""

import json
import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from compressor.checkpointed_trainer import CheckpointedTrainer
from compressor.checkpoints.checkpoint_commit import CheckpointError
from compressor.checkpoints.resharding import load_resharded

SHAPES = [{"a": (5,), "b": (2, 2)}, {"c": (1,)}]
"""Of two parameter groups; a is 1 to 5, b 6 to 9, c 10, and their moments ten and a hundred times that."""
HELD = [[[1, 2, 3, 4, 5, 6], [10, 0]], [[7, 8, 9, 0, 0, 0], [0, 0]]]
"""By rank what each group's buffer holds under ZeRO-2: 9 numbers padded to 12, and 1 padded to 4."""
FROZEN = [[1.0, 2.0, 3.0]]


def adam():
    return torch.optim.AdamW([{"params": [nn.Parameter(torch.ones(1))], "weight_decay": w} for w in (0.1, 0.0)])


def rank_file(rank):
    groups = adam().state_dict()["param_groups"]
    masters = [torch.tensor(numbers, dtype=torch.float32) for numbers in HELD[rank]]
    state = {
        flat: {"step": torch.tensor(7.0), "exp_avg": 10 * numbers, "exp_avg_sq": 100 * numbers}
        for flat, numbers in enumerate(masters)
    }
    part = {
        "loss_scaler": None, "dynamic_loss_scale": False, "overflow": False, "zero_stage": 2,
        "base_optimizer_state": {"state": state, "param_groups": groups},
        "single_partition_of_fp32_groups": [numbers[: (numbers != 0).sum()] for numbers in masters],
        "param_alignment_paddings": [[0, 0], [0]],
    }  # fmt: skip
    return {"optimizer_state_dict": part, "ds_version": "0.19.8"}


MODEL = {
    "module": {"frozen": torch.tensor(FROZEN), "seen": torch.tensor([4.0])}, "param_shapes": SHAPES,
    "frozen_param_fragments": None, "global_steps": 7, "global_samples": 42, "skipped_steps": 1,
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    """Write the files; returns what writes them again with changes."""
    (tmp_path / "global_step7").mkdir()
    (tmp_path / "latest").write_text("global_step7")

    def write(change=lambda files: None):
        files = {f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt": rank_file(rank) for rank in (0, 1)}
        files["mp_rank_00_model_states.pt"] = MODEL | {}
        change(files)
        for name, held in files.items():
            torch.save(held, tmp_path / "global_step7" / name)
        return tmp_path

    return write


class Optimizer:
    """What a ZeRO optimizer has of what is asked for, and a note of what it is given."""

    def __init__(self, stage, lengths, rank):
        self.optimizer, self.rank, self.calls = adam(), rank, []
        name = "fp32_partitioned_groups_flat" if stage == 3 else "single_partition_of_fp32_groups"
        setattr(self, name, [torch.zeros(length) for length in lengths])
        if stage == 3:
            self.sub_group_to_group_id = {flat: min(flat, 1) for flat in range(len(lengths))}
        else:
            self.round_robin_bit16_padding = [[0, 0], [0]]

    def load_state_dict(self, states, load_optimizer_states, load_from_fp32_weights):
        self.calls.append("load")
        assert load_optimizer_states and load_from_fp32_weights and states[: self.rank] == [None] * self.rank
        self.given = states[self.rank]

    def __getattr__(self, name):
        if name in ("checkpoint_event_prologue", "checkpoint_event_epilogue", "update_lp_params"):
            return lambda: self.calls.append(name)
        raise AttributeError(name)


def engine(stage=2, rank=0, num_ranks=1, lengths=(10, 2), shapes=SHAPES):
    module = nn.Module()
    module.frozen = nn.Parameter(torch.zeros(1, 3), requires_grad=False)
    module.kept = nn.Parameter(torch.full((2,), 5.0), requires_grad=False)  # not in the checkpoint
    module.register_buffer("seen", torch.zeros(1))
    for name in ("a", "b", "c"):
        module.register_parameter(name, nn.Parameter(torch.zeros(1)))
    if stage == 3:
        for weight in module.parameters():
            weight.ds_numel = weight.numel()
            weight.ds_tensor = torch.zeros(-(-weight.numel() // num_ranks))
    return SimpleNamespace(
        module=module, global_rank=rank, world_size=num_ranks, optimizer=Optimizer(stage, lengths, rank),
        zero_optimization_stage=lambda: stage, _get_zero_param_shapes=lambda: shapes,
    )  # fmt: skip


def test_one_rank_takes_all(checkpoint):
    ours = engine()
    load_resharded(ours, checkpoint(), 2)
    given = ours.optimizer.given
    wanted = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0], [10, 0]]
    assert [flat.tolist() for flat in given["single_partition_of_fp32_groups"]] == wanted
    inner = given["base_optimizer_state"]
    assert [inner["state"][flat]["exp_avg"].tolist() for flat in (0, 1)] == [[10 * n for n in row] for row in wanted]
    assert inner["state"][0]["exp_avg_sq"].tolist() == [100 * n for n in wanted[0]]
    assert [(group["weight_decay"], group["params"]) for group in inner["param_groups"]] == [(0.1, [0]), (0.0, [1])]
    assert ours.optimizer.calls == ["load", "update_lp_params"]
    assert ours.module.frozen.tolist() == FROZEN and ours.module.seen.item() == 4 and ours.module.kept[0] == 5
    assert (ours.global_steps, ours.global_samples, ours.skipped_steps) == (7, 42, 1)


def test_the_second_of_two_ranks_of_stage_3_takes_its_part(checkpoint):
    """Its group 0 lies in two buffers, a alone and b alone: 3 of a padded to 6, 2 of b, 1 of c padded to 2."""
    shapes = [{"a": (5,)}, {"b": (2, 2)}, {"c": (1,)}]
    ours = engine(3, 1, 2, (3, 2, 1), shapes)
    ours.optimizer.sub_group_to_group_id = {0: 0, 1: 0, 2: 1}
    load_resharded(ours, checkpoint(), 2)
    given = ours.optimizer.given
    assert [flat.tolist() for flat in given["fp32_flat_groups"]] == [[4, 5, 0], [8, 9], [0]]
    inner = given["optimizer_state_dict"]
    assert [state["exp_avg"].tolist() for state in inner["state"].values()] == [[40, 50, 0], [80, 90], [0]]
    assert [group["params"] for group in inner["param_groups"]] == [[0, 1], [2]]
    inner["state"][0]["step"] += 1  # as an optimizer does: each buffer counts for itself
    assert inner["state"][1]["step"] == 7
    assert ours.optimizer.calls == ["checkpoint_event_prologue", "load", "checkpoint_event_epilogue"]
    assert ours.module.frozen.ds_tensor.tolist() == [3, 0]


def first(files):
    return next(iter(files.values()))["optimizer_state_dict"]


REFUSED = {
    "names code": lambda files: files["mp_rank_00_model_states.pt"].update(bad=os.system),
    "frozen has another size": lambda files: files["mp_rank_00_model_states.pt"].update(
        module={"frozen": torch.ones(4)}
    ),
    r"trained other weights than .*\(c, 1 in all\)": lambda files: files["mp_rank_00_model_states.pt"].update(
        param_shapes=[SHAPES[0], {"c": (2,)}]
    ),
    "only as many ranks": lambda files: first(files).update(param_alignment_paddings=[[2, 0], [0]]),
    r"NVMe, parameter_alignment\); go on": lambda files: first(files)["single_partition_of_fp32_groups"].insert(
        0, torch.ones(5)
    ),
    "so that only as many": lambda files: first(files)["base_optimizer_state"]["state"][0].update(row=torch.ones(3)),
    "another optimizer than ZeRO's|another one than": lambda files: first(files)["base_optimizer_state"][
        "param_groups"
    ][0].update(bias_correction=True),
    "laid the optimizer's states out": lambda files: first(files).pop("loss_scaler"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_cut_is_refused_before_anything_is_changed(checkpoint, words):
    folder, ours = checkpoint(REFUSED[words]), engine()
    with pytest.raises(CheckpointError, match=words) as caught:
        load_resharded(ours, folder, 2)
    assert "\n" not in str(caught.value) and "give --fresh" in str(caught.value)
    assert ours.optimizer.calls == [] and ours.module.frozen.tolist() == [[0, 0, 0]]


def test_an_engine_that_lays_out_otherwise_is_refused(checkpoint):
    """Padding within, states on NVMe, groups of other weights."""
    padded, nvme, regrouped = engine(), engine(lengths=(0, 0)), engine(shapes=[{"a": (5,)}, {"b": (2, 2), "c": (1,)}])
    padded.optimizer.round_robin_bit16_padding = [[0, 1], [0]]
    for ours, words in ((padded, "cannot be cut as"), (nvme, "cannot be cut"), (regrouped, "parameter groups")):
        with pytest.raises(CheckpointError, match=words):
            load_resharded(ours, checkpoint(), 2)


def test_a_missing_rank_is_named(checkpoint):
    with pytest.raises(
        CheckpointError, match=r"zero_pp_rank_2_mp_rank_00_optim_states.pt is missing, a rank's part; del"
    ):
        load_resharded(engine(), checkpoint(), 3)


SPREADS = [
    # ranks and sharding that wrote it, those of the run, whether it goes on
    (2, "none", 3, "none", True),
    (2, "zero-2", 2, "zero-2", True),
    (2, "zero-2", 3, "zero-2", True),
    (2, "zero-1", 1, "zero-3", True),
    (2, "zero-2", 2, "none", False),
    (1, "none", 1, "zero-3", False),
    (2, "zero-0", 2, "zero-0", True),
    (2, "zero-0", 2, "zero-2", False),
    (2, "zero-0", 3, "zero-0", False),
    (2, "fsdp2", 2, "fsdp2", True),
    (2, "fsdp2", 4, "fsdp2", True),
    (2, "fsdp2", 2, "zero-3", False),
]


@pytest.mark.parametrize(("ranks", "sharding", "ranks_now", "sharding_now", "goes_on"), SPREADS)
def test_between_which_spreads_a_checkpoint_goes_on(tmp_path, ranks, sharding, ranks_now, sharding_now, goes_on):
    files = {"trainer_state.json": {"bytes": 0, "sha256": ""}}
    (tmp_path / "manifest.json").write_text(json.dumps({"ranks": ranks, "sharding": sharding, "files": files}))
    run = SimpleNamespace(checkpoint_facts=lambda: {"ranks": ranks_now, "sharding": sharding_now})
    if goes_on:
        CheckpointedTrainer.require_resumable(run, tmp_path)
        return
    words = f"by {ranks} ranks with sharding {sharding}, and this run has {ranks_now} with {sharding_now}; ZeRO's stage"
    with pytest.raises(CheckpointError, match=words) as caught:
        CheckpointedTrainer.require_resumable(run, tmp_path)
    assert str(caught.value).endswith("give --fresh to start anew")

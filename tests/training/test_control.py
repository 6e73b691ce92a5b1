"""The control, SFT on the chosen replies, sees what EPO sees: same recipe, same order, same prompts and targets."""

import dataclasses
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments
from trl import DPOConfig

from compressor.curriculum import ScheduledDataset
from compressor.text import IGNORE
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder, SftCollator
from epo.training.lora import freeze_all_but, inject_lora, lora_config
from epo.training.sft import SftTrainer
from epo.training.trainer import EpoTrainer
from launch.epo import EpoRecipe
from launch.recipe import read_recipe
from launch.sft import SftRecipe

ROOT = Path(__file__).parents[2]
CONTROLS = sorted(ROOT.glob("recipes/*/sft_chosen*.yaml"))
# TRL recomputes activations where a recipe does not say; that changes no number.
COSMETIC = {"output_dir", "gradient_checkpointing", "remove_unused_columns"}


def test_there_are_controls():
    assert len(CONTROLS) >= 4


@pytest.mark.parametrize("path", CONTROLS, ids=lambda path: path.parent.name)
def test_a_control_says_what_its_epo_recipe_says(path):
    more = ["--use_cpu", "--bf16", "false"]
    control, control_args = read_recipe([SftRecipe, TrainingArguments], ["--config", str(path), *more])
    epo, epo_args = read_recipe([EpoRecipe, EpoArguments], ["--config", str(path.with_name("epo.yaml")), *more])
    for name in ("data", "pairs", "model", "lora_rank", "lora_alpha", "dtype", "global_batch_size", "cache_dir"):
        assert getattr(control, name) == getattr(epo, name), name
    assert control.trainable == ["lora_"] and control.lora_dropout == 0.0
    assert control.dropouts == (0.0, 0.0) and control.emotion_weight == 0.0
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name not in COSMETIC:
            ours, theirs = getattr(control_args, field.name), getattr(epo_args, field.name)
            assert ours == theirs or "ConfigObject" in str(type(ours)) or str(ours) == str(theirs), field.name


def test_with_pairs_nothing_is_hidden_unless_the_recipe_asks():
    assert SftRecipe(data="d").dropouts == (0.12, 0.08)
    assert SftRecipe(data="d", pairs="p").dropouts == (0.0, 0.0)
    assert SftRecipe(data="d", pairs="p", modality_dropout=0.3, clip_dropout=0.1).dropouts == (0.3, 0.1)


@pytest.fixture
def runs(make_model, pairs, clip_cache, tmp_path):
    """The trainers of both, as their stages make them."""
    chosen = [pair.reply for pair in pairs]
    settings = {
        "output_dir": str(tmp_path), "max_steps": 3, "per_device_train_batch_size": 4, "report_to": "none",
        "use_cpu": True, "remove_unused_columns": False, "bf16": False, "gradient_checkpointing": False,
        "learning_rate": 1e-3,
    }  # fmt: skip
    order = ScheduledDataset(len(chosen), 12, 0, [sum(len(turn.text) for turn in reply.history) for reply in chosen], 4)
    torch.manual_seed(0)
    model, processor = make_model()
    build = PromptBuilder(processor, clip_cache)
    preferred = EpoTrainer(
        model, args=EpoArguments(**settings), train_dataset=order, data_collator=PairCollator(pairs, build),
        processing_class=processor, peft_config=lora_config(model, 4, 8, 0.0),
    )  # fmt: skip
    model, _ = make_model()
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    freeze_all_but(model, ("lora_",))
    control = SftTrainer(
        model=model, args=TrainingArguments(**settings), train_dataset=order,
        data_collator=SftCollator(chosen, build, *SftRecipe(data="d", pairs="p").dropouts),
        emotion_weight=0.0, learning_rates={},
    )  # fmt: skip
    return preferred, control


def test_batch_by_batch_both_see_the_same_prompts_targets_and_clips(runs):
    ours, theirs = ([trainer.train_dataset[i] for i in range(12)] for trainer in runs)
    assert [row["index"] for row in ours] == [row["index"] for row in theirs]
    for start in range(0, 12, 4):
        pair, plain = (t.data_collator(rows[start : start + 4]) for t, rows in zip(runs, (ours, theirs), strict=True))
        width = plain["input_ids"].size(1)
        ids, masks = pair["input_ids"][:4], pair["attention_mask"][:4]
        labels = ids.masked_fill(pair["completion_mask"][:4] == 0, IGNORE)
        assert ids[:, :width].equal(plain["input_ids"]) and labels[:, :width].equal(plain["labels"])
        assert masks[:, :width].equal(plain["attention_mask"]) and not masks[:, width:].any()
        for name in ("history_ids", "input_features", "num_mel_frames", "pixel_values", "num_video_frames"):
            assert pair[name].equal(plain[name]), name


def test_both_train_the_same_lora_with_the_same_optimizer(runs):
    def trained(trainer):
        names = {n.removeprefix("base_model.model."): p for n, p in trainer.model.named_parameters() if p.requires_grad}
        return {name: tuple(parameter.shape) for name, parameter in names.items()}

    assert trained(runs[0]) == trained(runs[1])
    kinds = [(type(o), [{k: v for k, v in g.items() if k != "params"} for g in o.param_groups]) for o in
             (trainer.create_optimizer() for trainer in runs)]  # fmt: skip
    assert kinds[0][0] is kinds[1][0]
    assert kinds[0][1][0] == kinds[1][1][0]


def test_the_gold_replies_cost_both_the_same(runs):
    """Before the first step: the NLL in EPO's loss, from its log-probabilities, and the control's own."""
    preferred, control = runs
    rows = [preferred.train_dataset[i] for i in range(1)]  # one pair: mean over tokens and over examples agree
    preferred.model.train()
    control.model.train()
    loss = preferred.compute_loss(preferred.model, preferred.data_collator(rows)).item()
    rows = [control.train_dataset[i] for i in range(1)]
    nll = control.loss_terms(control.model, control.data_collator(rows))["reply_nll"].item()
    assert loss == pytest.approx(0.6931472 + nll, abs=1e-5)


def test_trl_makes_nothing_else_of_what_both_share():
    """Of transformers' settings TRL changes few defaults; recipes say the ones that matter."""
    ours = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    theirs = {field.name: field.default for field in dataclasses.fields(DPOConfig)}
    changed = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    assert changed <= {"learning_rate", "logging_steps", "gradient_checkpointing", "bf16", "_VALID_DICT_FIELDS"}

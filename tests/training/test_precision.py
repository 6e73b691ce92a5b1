"""What weights are held in: small steps are kept, frozen weights stay as they are."""

import shutil

import pytest
import torch
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from compressor.precision import cast_weights, keep_trained_in_float32
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import freeze_all_but, inject_lora, lora_config
from epo.training.sft import SftTrainer
from launch.training import fit

RATE = 1e-5


@pytest.fixture
def make_trainer(make_model, examples, clip_cache, tmp_path):
    """Build a trainer of LoRA and of the projection of clips in a bfloat16 model, anew as a fresh process would."""

    def make(folder, **changes):
        model, processor = make_model()
        cast_weights(model, torch.bfloat16)
        torch.manual_seed(0)
        inject_lora(model, lora_config(model, 4, 8, 0.0))
        freeze_all_but(model, ("lora_", "clip_head"))
        settings = {
            "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": RATE, "save_strategy": "no",
            "report_to": "none", "use_cpu": True, "bf16": True, "remove_unused_columns": False, "disable_tqdm": True,
            "lr_scheduler_type": "constant", "weight_decay": 0.0,
        }  # fmt: skip
        return SftTrainer(
            model=model, args=TrainingArguments(output_dir=str(tmp_path / folder), **(settings | changes)),
            train_dataset=ScheduledDataset(8, 16, seed=0), emotion_weight=0.0, learning_rates={},
            data_collator=SftCollator(examples, PromptBuilder(processor, clip_cache)),
        )  # fmt: skip

    return make


@pytest.fixture
def trained(make_trainer):
    """Its weights before and after four steps of a small rate."""
    trainer = make_trainer("run")
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    return before, dict(trainer.model.named_parameters())


def test_steps_too_small_for_bfloat16_are_kept(trained):
    """Four AdamW steps of 1e-5 move a weight by up to 4e-5, less than half the spacing of bfloat16 at 0.02."""
    before, after = trained
    weight = "clip_head.weight"
    moved = (after[weight].detach() - before[weight].float()).abs()
    assert after[weight].dtype is torch.float32
    assert 2 * RATE < moved.max() <= 4.5 * RATE and (moved > 0).float().mean() > 0.9
    large = before[weight].float().abs() > 0.04
    rounded = after[weight].detach().bfloat16()
    assert rounded[large].equal(before[weight][large])  # in bfloat16 they would not have moved at all


def test_what_trains_is_float32_and_the_rest_is_untouched(trained):
    before, after = trained
    for name, parameter in after.items():
        assert parameter.dtype is (torch.float32 if parameter.requires_grad else torch.bfloat16), name
        assert parameter.requires_grad or parameter.equal(before[name]), name


def test_integers_have_no_precision_to_keep():
    model = torch.nn.Module()
    model.index = torch.nn.Parameter(torch.arange(3), requires_grad=False)
    keep_trained_in_float32(cast_weights(model, torch.bfloat16))
    assert model.index.dtype is torch.int64


def test_casting_leaves_rotary_frequencies_alone(make_llm):
    llm = make_llm()
    wanted = {name: buffer.clone() for name, buffer in llm.named_buffers()}
    found = dict(cast_weights(llm, torch.bfloat16).named_buffers())
    assert wanted and all(found[name].equal(tensor) for name, tensor in wanted.items())


def test_an_interrupted_run_goes_on_from_the_float32_weights(make_trainer, tmp_path):
    """A checkpoint holds each weight in its own precision, so that a resumed run equals one that went through."""
    whole = make_trainer("whole", save_strategy="steps", save_steps=2, learning_rate=1e-3)
    fit(whole)
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "parts" / "checkpoint-2")
    second = make_trainer("parts", save_strategy="steps", save_steps=2, learning_rate=1e-3)
    fit(second)
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert [name for name in theirs if not ours[name].equal(theirs[name])] == []
    assert {tensor.dtype for tensor in theirs.values()} == {torch.float32, torch.bfloat16}

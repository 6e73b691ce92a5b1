"""A run that was interrupted and goes on equals one that was not, step by step."""

import shutil

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from compressor.curriculum import ScheduledDataset
from epo.data.selection import labelled_clips
from epo.model.linears import linears_below
from epo.model.quantized import quantize_linears
from epo.training.arguments import EpoArguments
from epo.training.collate import ClipCollator, PairCollator, PromptBuilder, SftCollator
from epo.training.lora import lora_config, prepare_for_tuning
from epo.training.reference_cache import ReferenceCache
from epo.training.sft import ExtractorTrainer, SftTrainer
from epo.training.trainer import EpoTrainer
from launch.training import fit, last_checkpoint

STEPS, STOP = 6, 3


class StopAt(TrainerCallback):
    """Ends training after a step, as a time limit would, once its checkpoint is written."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == STOP


def settings(folder):
    return {
        "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 3e-3,
        "gradient_accumulation_steps": 2, "logging_steps": 1, "save_strategy": "steps", "save_steps": STOP,
        "report_to": "none", "use_cpu": True, "remove_unused_columns": False, "disable_tqdm": True,
        "lr_scheduler_type": "cosine", "seed": 3,
    }  # fmt: skip


@pytest.fixture
def make_trainer(make_model, make_extractor, reader, dialogues, examples, pairs, clip_cache):
    """Build the trainer of a stage anew, as a fresh process would."""

    def make(stage, folder):
        if stage == "extractor":
            # Dropout and augmentation draw from torch's global generator, which the checkpoint must restore.
            return ExtractorTrainer(
                model=make_extractor(dropout=0.1, augmentation=1.0), args=TrainingArguments(**settings(folder)),
                train_dataset=ScheduledDataset(11, 4 * STEPS, seed=0),
                data_collator=ClipCollator(labelled_clips(dialogues), reader, clip_cache, modality_dropout=0.5),
            )  # fmt: skip
        model, processor = make_model()
        build = PromptBuilder(processor, clip_cache)
        if stage == "sft in few bits":
            quantize_linears(model, linears_below(model, "language_model."), "8bit")
            prepare_for_tuning(model, 4, 8)
        if stage.startswith("sft"):
            return SftTrainer(
                model=model, args=TrainingArguments(**settings(folder)),
                train_dataset=ScheduledDataset(8, 4 * STEPS, seed=0),
                data_collator=SftCollator(examples, build, modality_dropout=0.3, clip_dropout=0.3),
                emotion_weight=0.5, learning_rates={"compressor": 1e-3},
            )  # fmt: skip
        own = {"alpha": 0.5, "conditional_weight": 0.5, "bf16": False, "gradient_checkpointing": False}
        given = {"peft_config": lora_config(model, 4, 8, 0.0)}
        if stage == "epo of all weights":
            own["conditional_weight"] = 0.0
            given = {"tune": "all", "reference_cache": ReferenceCache(folder / "reference")}
        return EpoTrainer(
            model=model, args=EpoArguments(**settings(folder), **own),
            train_dataset=ScheduledDataset(len(pairs), 4 * STEPS, seed=0), data_collator=PairCollator(pairs, build),
            processing_class=processor, **given,
        )  # fmt: skip

    return make


def curve(trainer):
    return [(log["step"], log["loss"], log["grad_norm"]) for log in trainer.state.log_history if "loss" in log]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["extractor", "sft", "sft in few bits", "epo", "epo of all weights"])
def test_resumed_equals_uninterrupted(make_trainer, tmp_path, stage):
    whole = make_trainer(stage, tmp_path / "whole")
    fit(whole)
    first = make_trainer(stage, tmp_path / "parts")
    first.add_callback(StopAt())
    fit(first)
    assert first.state.global_step == STOP
    torch.manual_seed(99)  # whatever the new process did before it resumed
    second = make_trainer(stage, tmp_path / "parts")
    fit(second)
    assert second.state.global_step == STEPS
    assert curve(second) == curve(whole)
    ours, theirs = second.model.state_dict(), whole.model.state_dict()
    assert [name for name in theirs if not ours[name].equal(theirs[name])] == []


def test_a_checkpoint_that_was_not_finished_is_not_taken(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (3, 20, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-100" / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    shutil.rmtree(tmp_path / "checkpoint-20")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"

"""A global batch of eight gives one loss and one gradient, read as 8x1, 4x2, 2x4 or 1x8."""

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from compressor.curriculum import Curriculum, ScheduledDataset
from compressor.data import CompressionCollator, History
from compressor.fitting import FixedParts
from compressor.placeholders import MEMORY_TOKEN
from compressor.trainer import CompressorTrainer, CurriculumCollator, ObjectiveWeights
from compressor.utterance import Utterance
from epo.data.selection import labelled_clips
from epo.prompts.text_prompts import TextPrompts
from epo.training.arguments import EpoArguments
from epo.training.collate import ClipCollator, PairCollator, PromptBuilder, SftCollator, TextCollator
from epo.training.lora import freeze_all_but, inject_lora, lora_config
from epo.training.sft import ExtractorTrainer, SftTrainer, TextTrainer
from epo.training.trainer import EpoTrainer

GLOBAL = 8


class KeepGradient(TrainerCallback):
    """Keeps the accumulated gradient that the optimizer is about to use."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def settings(folder, micro):
    """One step, unclipped."""
    return {
        "output_dir": str(folder), "max_steps": 1, "per_device_train_batch_size": micro, "learning_rate": 1e-3,
        "gradient_accumulation_steps": GLOBAL // micro, "optim": "sgd", "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
        "remove_unused_columns": False, "disable_tqdm": True,
    }  # fmt: skip


def shaken(model):
    """Give the adapters something to say: LoRA starts as zero."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.3)
    return model


@pytest.fixture
def stages(
    make_model, make_llm, make_extractor, make_compressor, make_tokenizer, reader, dialogues, examples, pairs,
    clip_cache, tmp_path,
):  # fmt: skip
    """By stage, a function that builds its trainer with a micro-batch."""

    def arguments(micro):
        return TrainingArguments(**settings(tmp_path, micro))

    def extractor(micro):
        collator = ClipCollator(labelled_clips(dialogues), reader, clip_cache, modality_dropout=0.5)
        return ExtractorTrainer(
            model=make_extractor(), args=arguments(micro), train_dataset=ScheduledDataset(11, GLOBAL, seed=0),
            data_collator=collator,
        )  # fmt: skip

    def text(micro):
        return TextTrainer(
            model=make_llm(), args=arguments(micro), train_dataset=ScheduledDataset(12, GLOBAL, seed=0),
            data_collator=TextCollator(examples, TextPrompts(make_tokenizer()), Curriculum(), history_weight=0.15),
        )  # fmt: skip

    def sft(micro):
        model, processor = make_model()
        inject_lora(model, lora_config(model, 4, 8, 0.0))
        freeze_all_but(model, ("lora_", "extractor", "clip_", "emotion_words", "compressor"))
        collator = SftCollator(examples, PromptBuilder(processor, clip_cache), 0.4, 0.4)
        return SftTrainer(
            model=shaken(model), args=arguments(micro), train_dataset=ScheduledDataset(12, GLOBAL, seed=0),
            data_collator=collator, emotion_weight=0.5, learning_rates={},
        )  # fmt: skip

    def compressor(micro):
        words = make_tokenizer()
        words.add_tokens([MEMORY_TOKEN], special_tokens=True)
        histories = [
            History(tuple(Utterance(t.speaker, t.text) for t in e.history), FixedParts(after=e.current.text), e.text)
            for e in examples
        ]
        return CompressorTrainer(
            model=make_compressor(), args=arguments(micro), train_dataset=ScheduledDataset(12, GLOBAL, seed=0),
            data_collator=CurriculumCollator(
                histories, Curriculum(), CompressionCollator(make_tokenizer(), words, 320, 2)
            ),
            llm=make_llm(), memory_id=words.convert_tokens_to_ids(MEMORY_TOKEN),
            weights=ObjectiveWeights(1.0, 0.5, 0.25),
        )  # fmt: skip

    def epo(micro):
        model, processor = make_model()
        args = EpoArguments(
            **settings(tmp_path, micro), beta=0.3, alpha=0.7, bf16=False, gradient_checkpointing=False,
            emotion_margin=0.4, conditional_weight=0.6, anchor_weight=0.3,
        )  # fmt: skip
        trainer = EpoTrainer(
            model, args=args, train_dataset=ScheduledDataset(7, GLOBAL, seed=0),
            data_collator=PairCollator(pairs[:7], PromptBuilder(processor, clip_cache)), processing_class=processor,
            peft_config=lora_config(model, 4, 8, 0.0),
        )  # fmt: skip
        shaken(trainer.model)
        return trainer

    return {"extractor": extractor, "text": text, "sft": sft, "compressor": compressor, "epo": epo}


@pytest.mark.parametrize("stage", ["extractor", "text", "sft", "compressor", "epo"])
def test_loss_and_gradient_do_not_depend_on_the_micro_batch(stages, stage):
    found = {}
    for micro in (8, 4, 2, 1):
        trainer, kept = stages[stage](micro), KeepGradient()
        trainer.add_callback(kept)
        trainer.train()
        log = next(log for log in trainer.state.log_history if "loss" in log)
        found[micro] = (log, kept.gradient)
    whole, gradient = found[8]
    largest = max(tensor.abs().max().item() for tensor in gradient.values())
    assert largest > 1e-2
    for micro in (4, 2, 1):
        log, other = found[micro]
        assert log["loss"] == pytest.approx(whole["loss"], abs=1e-5 * max(1, abs(whole["loss"])))
        for name in (
            "emotion_loss",
            "reply_nll",
            "emotion_accuracy",
            "rewards/margins",
            "rewards/margins/sad-angry",
            "grad_norm",
        ):
            assert name not in whole or log[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-5), name
        assert other.keys() == gradient.keys()
        gap = max((other[name] - tensor).abs().max().item() for name, tensor in gradient.items())
        assert gap < 1e-5 * largest, (micro, gap, largest)

"""Supervised stages: a loss that does not depend on the batch, the right weights trained."""

import pytest
import torch
from transformers import TrainingArguments

import epo
from compressor.curriculum import Curriculum, ScheduledDataset
from epo.data.cache import ClipCache
from epo.data.selection import labelled_clips
from epo.model.linears import LoraTargetError
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import ClipCollator, PromptBuilder, SftCollator, TextCollator
from epo.training.lora import (
    freeze_all_but,
    inject_lora,
    language_model_linears,
    lora_config,
    lora_sizes,
    num_trainable,
    prepare_for_tuning,
)
from epo.training.sft import ExtractorTrainer, NothingToTrainError, SftTrainer, TextTrainer


def arguments(folder, **changes):
    settings = {
        "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "remove_unused_columns": False,
        "disable_tqdm": True,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(folder), **(settings | changes))


@pytest.fixture
def make_sft(model_and_processor, examples, clip_cache, tmp_path):
    def make(emotion_weight=0.5, learning_rates=None, model=None, **changes):
        model, processor = model_and_processor if model is None else (model, model_and_processor[1])
        return SftTrainer(
            model=model, args=arguments(tmp_path, **changes), train_dataset=ScheduledDataset(8, 64, seed=0),
            data_collator=SftCollator(examples, PromptBuilder(processor, clip_cache)),
            emotion_weight=emotion_weight, learning_rates={} if learning_rates is None else learning_rates,
        )  # fmt: skip

    return make


def batch_of(trainer, *indices):
    return trainer.data_collator([{"index": i, "seed": 0, "progress": 0.9} for i in indices])


def test_the_loss_of_a_batch_is_the_mean_of_its_examples(make_sft):
    trainer = make_sft(emotion_weight=0.5)
    with torch.no_grad():
        together = trainer.loss_terms(trainer.model, batch_of(trainer, 0, 1, 5))
        alone = [trainer.loss_terms(trainer.model, batch_of(trainer, i)) for i in (0, 1, 5)]
    for name, value in together.items():
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(value, mean, atol=1e-4, rtol=1e-4)
    assert together["loss"].item() == pytest.approx((together["reply_nll"] + 0.5 * together["emotion_loss"]).item())


def test_without_weight_recognition_is_not_learnt(make_sft):
    trainer = make_sft(emotion_weight=0.0)
    assert set(trainer.loss_terms(trainer.model, batch_of(trainer, 0))) == {"loss", "reply_nll"}


def test_each_part_has_its_own_learning_rate(make_sft, model_and_processor):
    trainer = make_sft(learning_rates={"compressor": 3e-4})
    names = {id(parameter): name for name, parameter in model_and_processor[0].named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in trainer.create_optimizer().param_groups for p in g["params"]}
    assert rates.keys() == {n for n, p in model_and_processor[0].named_parameters() if p.requires_grad}
    assert {rate for name, rate in rates.items() if "compressor" in name} == {3e-4}
    assert {rate for name, rate in rates.items() if "compressor" not in name} == {1e-2}
    assert trainer.create_optimizer() is trainer.optimizer


def test_the_optimizer_is_what_the_settings_ask_for(make_sft, model_and_processor):
    """Betas, epsilon, kind; decay on all weights but norms and biases; in each part with its rate."""
    settings = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-5, "weight_decay": 0.1}
    trainer = make_sft(learning_rates={"compressor": 3e-4}, optim="adamw_torch", **settings)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is torch.optim.AdamW
    assert {(g["betas"], g["eps"]) for g in optimizer.param_groups} == {((0.8, 0.95), 1e-5)}
    names = {id(parameter): name for name, parameter in model_and_processor[0].named_parameters()}
    decays = {names[id(p)]: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    rates = {g["lr"] for g in optimizer.param_groups if g["weight_decay"] == 0.1}
    assert rates == {1e-2, 3e-4}
    for name in ("clip_norm.weight", "clip_head.bias", "language_model.model.norm.weight"):
        assert decays[name] == 0.0, name
    assert decays["clip_head.weight"] == decays["emotion_words.weight"] == 0.1
    assert isinstance(make_sft(optim="sgd").create_optimizer(), torch.optim.SGD)


def test_a_rate_for_what_does_not_train_is_refused(make_sft, model_and_processor):
    freeze_all_but(model_and_processor[0], ("clip_head",))
    with pytest.raises(NothingToTrainError, match="a learning rate is set for 'compressor', of which nothing trains"):
        make_sft(learning_rates={"compressor": 3e-4})


def test_dropout_of_a_frozen_language_model_is_off_and_of_lora_on(make_llm, make_model, make_sft, model_and_processor):
    """Qwen's attention keeps its rate as a number; LoRA's own is a setting of the recipe."""

    def rates(model):
        found = [(name, m.p) for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)]
        return {p for name, p in found if "lora_dropout" in name}, {
            m.attention_dropout for m in model.language_model.modules() if hasattr(m, "attention_dropout")
        }

    model = make_model(make_llm(attention_dropout=0.25))[0]
    inject_lora(model, lora_config(model, 4, 8, 0.125))
    freeze_all_but(model, ("lora_",))
    make_sft(model=model)
    assert rates(model) == ({0.125}, {0.0})
    model = make_model(make_llm(attention_dropout=0.25))[0]
    make_sft(model=model)
    assert rates(model)[1] == {0.25}  # of a language model that trains itself it stays


def test_training_lowers_both_losses(make_sft):
    trainer = make_sft(max_steps=12, per_device_train_batch_size=8, lr_scheduler_type="constant", learning_rate=3e-3)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "reply_nll" in log]
    assert logs[-1]["reply_nll"] < 0.5 * logs[0]["reply_nll"]
    assert logs[-1]["emotion_loss"] < logs[0]["emotion_loss"]


def test_extractor_and_text_trainers_report_their_terms(
    make_extractor, reader, dialogues, clip_cache, make_llm, examples, tokenizer, tmp_path
):
    heard = ExtractorTrainer(
        model=make_extractor(), args=arguments(tmp_path), train_dataset=ScheduledDataset(11, 8, seed=0),
        data_collator=ClipCollator(labelled_clips(dialogues), reader, clip_cache),
    )  # fmt: skip
    heard.train()
    assert "emotion_accuracy" in heard.state.log_history[0]
    read = TextTrainer(
        model=make_llm(), args=arguments(tmp_path), train_dataset=ScheduledDataset(12, 8, seed=0),
        data_collator=TextCollator(examples, TextPrompts(tokenizer), Curriculum(), history_weight=0.15),
    )  # fmt: skip
    read.train()
    assert read.state.log_history[0]["reply_nll"] > 0


def test_lora_sits_on_the_language_models_linears_only(model_and_processor):
    names = language_model_linears(model_and_processor[0])
    assert len(names) == 2 * 7  # q, k, v, o, gate, up, down in two layers
    assert all(name.startswith("language_model.model.layers.") for name in names)


def test_only_named_parts_train(model_and_processor):
    model = model_and_processor[0]
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    freeze_all_but(model, ("lora_", "clip_head"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {
        "clip_head.weight",
        "clip_head.bias",
    }
    # Rank 4 on linears 32 -> 32 (q, k, v, o) and 32 -> 64, 32 -> 64, 64 -> 32, and the 16 -> 32 head.
    per_layer = 4 * 4 * (32 + 32) + 3 * 4 * (32 + 64)
    assert num_trainable(model)[0] == 2 * per_layer + 16 * 32 + 32


def test_what_a_module_fixed_stays_fixed(model_and_processor, tmp_path):
    """Whisper's sinusoids, whatever `trainable` names, with and without LoRA, and where a model is loaded again."""
    model, processor = model_and_processor
    fixed = "extractor.audio_encoder.embed_positions.weight"
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [fixed]
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = epo.load_model(str(tmp_path))
    assert [name for name, p in again.named_parameters() if not p.requires_grad] == [fixed]
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [fixed]
    freeze_all_but(model, ("lora_", "extractor"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert fixed not in trained and "extractor.audio_encoder.conv1.weight" in trained


def test_replies_are_all_it_takes_and_what_is_saved_is_the_tuned_model(make_model, examples, tmp_path):
    """From plain replies it makes collator and schedule; the folder it writes holds what it learnt."""
    torch.manual_seed(3)
    model, processor = make_model()
    prepare_for_tuning(model, rank=4, alpha=8)
    assert lora_sizes(model) == (4, 8)
    args = TrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, seed=0,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, remove_unused_columns=False,
        disable_tqdm=True,
    )  # fmt: skip
    replies = [example for example in examples if example.current.clip is not None]
    trainer = SftTrainer(model, args, train_dataset=replies, processing_class=processor)
    trainer.train()
    logged = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert len(logged) == 3 and logged[-1] < logged[0]
    trainer.save_tuned(tmp_path / "tuned", processor)
    again, its_processor = epo.load_model(str(tmp_path / "tuned"))
    prompt = PromptBuilder(processor, ClipCache(None))(replies[0])
    batch = {"input_ids": torch.tensor([prompt.input_ids])} | processor.batch_context([prompt])
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    assert (
        its_processor.encode_prompt(replies[0].history, replies[0].current, prompt.clip).input_ids == prompt.input_ids
    )
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(**batch).logits, model.eval()(**batch).logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(LoraTargetError, match="the model has no LoRA to make part of it; call prepare_for_tuning"):
        lora_sizes(again)

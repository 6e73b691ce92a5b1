"""What TRL's trainer, fused head and parser do with what is ours."""

import contextlib
from dataclasses import dataclass

import pytest
import torch
from trl import TrlParser
from trl.trainer import dpo_trainer
from trl.trainer.utils import add_fused_lm_head, use_adapter

from compressor.text import IGNORE
from epo.model.encoded_context import CONTEXT_KEYS
from epo.training.collate import PairCollator
from epo.training.reference_cache import ReferenceCache
from epo.training.trainer import EpoTrainer

NUM_PAIRS = 4


@pytest.fixture
def batch(pairs, build):
    return PairCollator(pairs, build)([{"index": i} for i in range(NUM_PAIRS)])


@pytest.mark.seam("prepare_dataset")
def test_rows_are_prepared_by_one_method(make_epo_trainer):
    calls = []

    class Recording(EpoTrainer):
        def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
            calls.append((dataset.column_names, processing_class, args, dataset_name))
            return super()._prepare_dataset(dataset, processing_class, args, dataset_name)

    trainer = make_epo_trainer(Recording)
    assert calls == [(["index"], trainer.processing_class, trainer.args, "train")]


@pytest.mark.seam("dpo_compute_loss")
def test_a_step_asks_for_the_loss_as_we_give_it(make_epo_trainer):
    calls = []

    class Recording(EpoTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            calls.append(sorted(inputs))
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    make_epo_trainer(Recording).train()
    assert len(calls) == 1 and {"input_ids", "completion_mask", "prompt_lengths", *CONTEXT_KEYS} <= set(calls[0])


@pytest.mark.seam("text_path")
def test_a_processor_does_not_lead_to_images(make_epo_trainer):
    trainer = make_epo_trainer()
    assert trainer._is_vlm and not trainer._is_vision_dataset
    assert isinstance(trainer.data_collator, PairCollator)


@pytest.mark.seam("dpo_numbers")
def test_numbers_of_a_step_are_averaged_in_the_log(make_epo_trainer, batch):
    trainer = make_epo_trainer()
    trainer.model.train()
    for _ in range(2):
        trainer.compute_loss(trainer.model, dict(batch))
    kept = {name: list(numbers) for name, numbers in trainer._metrics["train"].items()}
    assert len(kept["rewards/margins"]) == 2 and trainer._total_train_tokens == 2 * batch["attention_mask"].sum()
    logs = {}
    trainer.log(logs)
    assert logs["logps/chosen"] == sum(kept["logps/chosen"]) / 2 and not trainer._metrics["train"]


@pytest.mark.seam("no_second_model")
def test_no_second_model_is_loaded_for_a_policy_without_a_lora(make_epo_trainer, tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(dpo_trainer, "create_model_from_path", lambda *asked, **_: loads.append(asked))
    given = {"tune": "all", "reference_cache": ReferenceCache(tmp_path / "reference")}
    assert make_epo_trainer(given=given).ref_model is None and loads == []
    monkeypatch.setattr("epo.training.trainer.no_second_model", contextlib.nullcontext)
    assert make_epo_trainer(given=given).ref_model is None and len(loads) == 1


@pytest.mark.seam("no_checkpointing")
def test_the_reference_is_read_without_checkpoints(make_epo_trainer, batch):
    trainer = make_epo_trainer(gradient_checkpointing=True)
    seen = []
    trainer.model.get_base_model().register_forward_pre_hook(
        lambda model, args: seen.append((torch.is_grad_enabled(), model.is_gradient_checkpointing))
    )
    trainer.model.gradient_checkpointing_enable()
    trainer.compute_loss(trainer.model, batch)
    assert seen == [(True, True), (False, False)]


@pytest.mark.seam("other_adapter")
def test_another_adapter_is_active_for_as_long_as_it_is_used(make_epo_trainer):
    policy = make_epo_trainer().model
    policy.add_adapter("ref", policy.peft_config["default"])
    with use_adapter(policy, "ref"):
        assert policy.active_adapter == "ref"
    assert policy.active_adapter == "default"


@pytest.mark.seam("fused_head")
def test_labels_are_scored_by_us_under_the_names_and_meanings_of_trls_head(make_epo_trainer, batch):
    """TRL's head on the stock language model, given our embeddings, finds what our own forward finds."""
    model = make_epo_trainer().model.get_base_model()
    assert "forward" not in vars(model)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORE)
    inputs = {key: value for key, value in batch.items() if key != "completion_mask"}
    llm = model.language_model
    add_fused_lm_head(llm, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    with torch.no_grad():
        ours = model(**inputs, labels=labels, fused_lm_head=True)
        context = model.encode_context(**{key: batch[key] for key in CONTEXT_KEYS})
        both = torch.arange(NUM_PAIRS).repeat(2)
        embeds = model.embed_prompts(batch["input_ids"], context.rows(both))
        theirs = llm(inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True)
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-4)
    assert ours.is_top1.equal(theirs.is_top1)
    assert (ours.log_probs != 0).sum() == (labels[:, 1:] != IGNORE).sum()


@dataclass
class Keys:
    """Three numbers."""

    low: int = 1
    middle: int = 2
    high: int = 3


@pytest.mark.seam("parser_defaults")
def test_defaults_give_way_to_the_file_and_the_file_to_flags(tmp_path):
    (tmp_path / "recipe.yaml").write_text("middle: 200\nhigh: 300\n")
    parser = TrlParser([Keys])
    parser.set_defaults_with_config(low=10, middle=20, high=30)
    (keys,) = parser.parse_args_and_config(["--config", str(tmp_path / "recipe.yaml"), "--high", "3000"])
    assert keys == Keys(10, 200, 3000)

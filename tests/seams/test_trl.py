"""What TRL's trainer, fused head and parser do with what is ours."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional
from trl import TrlParser
from trl.trainer.utils import add_fused_lm_head

from compressor.text import IGNORE
from epo.evaluation.rewards import adapter_logps
from epo.model.modeling import CONTEXT_KEYS
from epo.training.collate import PairCollator
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


@pytest.mark.seam("batch_keys")
def test_keys_of_our_own_reach_policy_and_reference(make_epo_trainer, batch):
    trainer = make_epo_trainer()
    seen = []
    trainer.model.get_base_model().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(set(kwargs)), with_kwargs=True
    )
    trainer.compute_loss(trainer.model, batch)
    assert len(seen) == 2
    for keys in seen:
        assert {"input_ids", "attention_mask", "prompt_lengths", "context"} <= keys
        assert "completion_mask" not in keys


def hand_worked(trainer, pairs, build, batch):
    """Margin (B,) and chosen NLL a token, from plain logits under the LoRA and without it."""
    with_lora, without = adapter_logps(trainer.model, pairs[:NUM_PAIRS], build)
    ratios = [policy - reference for policy, reference in zip(with_lora, without, strict=True)]
    num_tokens = batch["completion_mask"].chunk(2)[0].sum()
    return trainer.beta * (ratios[0] - ratios[1]), -with_lora[0].sum() / num_tokens


def shaken(trainer):
    """Give the LoRA something to say: it starts as zero."""
    torch.manual_seed(5)
    for name, parameter in trainer.model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.3)
    return trainer


@pytest.mark.seam("chosen_first")
def test_the_first_half_is_the_chosen_one(make_epo_trainer, pairs, build, batch):
    """The NLL is that of the first rows; swapped halves would give another."""
    trainer = shaken(make_epo_trainer(alpha=1e4))
    _, nll = hand_worked(trainer, pairs, build, batch)
    nll = 1e4 * nll
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(nll.item(), rel=1e-3)
    swapped = {
        key: torch.cat(value.chunk(2)[::-1]) if len(value) == 2 * NUM_PAIRS else value for key, value in batch.items()
    }
    assert trainer.compute_loss(trainer.model, swapped).item() != pytest.approx(nll.item(), rel=1e-2)


@pytest.mark.seam("loss_types")
def test_the_loss_is_the_weighted_sum_of_both_types(make_epo_trainer, pairs, build, batch):
    trainer = shaken(make_epo_trainer())
    margin, nll = hand_worked(trainer, pairs, build, batch)
    assert margin.abs().min() > 1e-3
    wanted = -functional.logsigmoid(margin).mean() + 0.7 * nll
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(wanted.item(), abs=1e-5)


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

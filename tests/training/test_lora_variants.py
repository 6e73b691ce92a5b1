"""rsLoRA and DoRA: what trained is what is saved, and what could not be saved exactly is refused before training."""

import contextlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Conv1D, TrainingArguments

from compressor.curriculum import ScheduledDataset
from epo.model.linears import linears_below
from epo.model.loading import load_adapter
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.quantized import quantize_linears
from epo.model.saving import save_weights
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import (
    LoraVariantError,
    finish_lora,
    inject_lora,
    lora_config,
    lora_sizes,
    lora_variant,
    transposed_layers,
)
from epo.training.sft import SftTrainer


@pytest.fixture
def batch(model_and_processor, examples, clip_cache):
    build = PromptBuilder(model_and_processor[1], clip_cache)
    batch = SftCollator(examples, build)([{"index": i, "seed": 0} for i in range(3)])
    return {name: tensor for name, tensor in batch.items() if name not in ("labels", "emotions")}


def tuned(model, variant, rank=4):
    """Put a LoRA on a model and give all that trains in it something to say."""
    inject_lora(model, lora_config(model, rank, 8, 0.0, variant))
    return shake(model)


def shake(model):
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.05)
        elif ".lora_magnitude_vector." in name:
            parameter.data.mul_(torch.rand_like(parameter) + 0.5)
    return model.eval()


def answers(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def saved(model, folder, in_float32):
    rank, alpha = lora_sizes(model)
    state, model.config.low_rank = finish_lora(
        model.state_dict(), rank, alpha, in_float32, transposed_layers(model), lora_variant(model)
    )
    save_weights(model.config, state, folder)
    return EpoForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def test_the_scale_of_rslora_by_hand():
    """W + (alpha / sqrt(rank)) B A = 1 + (6 / 2) 1 x 2 = 7 with rank 4, one row of which is not idle."""
    down, up = torch.zeros(4, 1), torch.zeros(1, 4)
    down[0], up[0, 0] = 2.0, 1.0
    state = {"a.base_layer.weight": torch.ones(1, 1), "a.lora_A.default.weight": down, "a.lora_B.default.weight": up}
    assert finish_lora(state, 4, 6, True, variant="rslora")[0]["a.weight"].tolist() == [[7.0]]
    beside = finish_lora(state, 4, 6, False, variant="rslora")[0]
    assert (beside["a.up"] @ beside["a.down"]).tolist() == [[6.0]]


def test_the_lengths_of_dora_by_hand():
    """W + B A = [[3, 4]], of length 5; the length that was learnt is 10."""
    state = {
        "a.base_layer.weight": torch.tensor([[1.0, 4.0]]), "a.lora_A.default.weight": torch.tensor([[2.0, 0.0]]),
        "a.lora_B.default.weight": torch.ones(1, 1), "a.lora_magnitude_vector.default.weight": torch.tensor([10.0]),
    }  # fmt: skip
    finished, ranks = finish_lora(state, 1, 1, True, variant="dora")
    assert finished.keys() == {"a.weight"} and ranks is None
    assert finished["a.weight"].tolist() == [[6.0, 8.0]]


@pytest.mark.parametrize(
    ("variant", "in_float32"), [("plain", True), ("rslora", True), ("rslora", False), ("dora", True)]
)
def test_the_saved_model_answers_as_the_one_that_trained(model_and_processor, batch, tmp_path, variant, in_float32):
    model = model_and_processor[0]
    plain = answers(model, batch)
    tuned(model, variant)
    assert lora_variant(model) == variant
    wanted = answers(model, batch)
    assert (wanted - plain).norm() > 0.05 * plain.norm()
    again = saved(model, tmp_path, in_float32)
    assert (again.config.low_rank is None) == in_float32
    torch.testing.assert_close(answers(again, batch), wanted, atol=2e-4, rtol=1e-4)


def test_dora_on_a_model_with_an_earlier_change_beside_its_weights(model_and_processor, batch, tmp_path):
    first = saved(tuned(model_and_processor[0], "rslora"), tmp_path / "first", in_float32=False)
    wanted = answers(tuned(first, "dora"), batch)
    torch.testing.assert_close(answers(saved(first, tmp_path / "second", True), batch), wanted, atol=2e-4, rtol=1e-4)


def test_dora_on_a_transposed_layer_equals_pefts_own_merging():
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["0"], use_dora=True, fan_in_fan_out=True)
    config.init_lora_weights = False
    wrapped = get_peft_model(nn.Sequential(Conv1D(5, 3)), config)
    state = {name.removeprefix("base_model.model."): tensor for name, tensor in wrapped.state_dict().items()}
    ours, _ = finish_lora(state, 2, 4, True, transposed=["0"], variant="dora")
    torch.testing.assert_close(ours["0.weight"], wrapped.merge_and_unload().state_dict()["0.weight"])


@pytest.mark.parametrize(("variant", "quantize"), [("rslora", "none"), ("dora", "8bit")])
def test_an_adapter_of_any_variant_is_read_again(make_model, batch, tmp_path, variant, quantize):
    """As EPO writes it, beside plain weights and beside those in few bits."""

    def base():
        model = make_model()[0]
        if quantize != "none":
            quantize_linears(model, linears_below(model, "language_model."), quantize)
        return model

    policy = shake(get_peft_model(base(), lora_config(base(), 4, 8, 0.0, variant)))
    wanted = answers(policy, batch)
    with policy.disable_adapter():
        reference = answers(policy, batch)
    policy.save_pretrained(tmp_path)
    assert answers(base(), batch).equal(reference) and (wanted - reference).norm() > 0.05 * reference.norm()
    torch.testing.assert_close(answers(load_adapter(base(), str(tmp_path)).eval(), batch), wanted)


def test_rank_one_is_one_and_the_same(model_and_processor):
    assert lora_variant(model_and_processor[0]) == "plain"
    assert lora_variant(tuned(model_and_processor[0], "rslora", rank=1)) == "plain"


@pytest.mark.parametrize("in_float32", [True, False])
def test_dora_is_refused_where_its_changes_would_be_rounded(model_and_processor, examples, tmp_path, in_float32):
    model, processor = model_and_processor
    inject_lora(model, lora_config(model, 4, 8, 0.0, "dora"))

    args = TrainingArguments(
        str(tmp_path), use_cpu=True, bf16=not in_float32, remove_unused_columns=False, report_to="none", max_steps=1
    )
    collator = SftCollator(examples, PromptBuilder(processor, None))
    expected = pytest.raises(LoraVariantError, match="lora_variant: dora .* tune in float32 .* or by rslora")
    with contextlib.nullcontext() if in_float32 else expected:
        SftTrainer(model, args, train_dataset=ScheduledDataset(8, 8, seed=0), data_collator=collator)

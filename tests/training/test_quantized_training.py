"""QLoRA: tuning and preference training beside weights in few bits, and what is saved of them."""

import importlib.util
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from epo.evaluation.rewards import pair_logps
from epo.model.family import load_of_family
from epo.model.linears import linears_below
from epo.model.loading import load_adapter, load_model
from epo.model.quantized import QuantizationError, QuantizedLinear, has_rounded, quantize_linears
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder, SftCollator
from epo.training.lora import lora_config, prepare_for_tuning
from epo.training.sft import SftTrainer
from epo.training.trainer import EpoTrainer

_COMMON = {
    "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no",
    "report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_steps": 4,
}  # fmt: skip
has_kernels = importlib.util.find_spec("bitsandbytes") is not None
four_bits = pytest.param(
    "4bit",
    marks=pytest.mark.skipif(not has_kernels, reason="four bits are an extra: pip install 'epo-trainer[quantized]'"),
)


def losses(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [four_bits, "8bit"])
def test_what_is_tuned_saved_and_preferred_is_one_model(make_model, examples, pairs, clip_cache, tmp_path, quantize):
    """The saved folder is a plain model: read as it is and read in few bits again it scores as the one that trained."""
    model, processor = make_model()
    quantize_linears(model, linears_below(model, "language_model."), quantize)
    prepare_for_tuning(model, rank=4, alpha=8)
    build = PromptBuilder(processor, clip_cache)
    trainer = SftTrainer(
        model, TrainingArguments(str(tmp_path / "run"), remove_unused_columns=False, **_COMMON),
        train_dataset=ScheduledDataset(8, 64, seed=0), data_collator=SftCollator(examples, build),
    )  # fmt: skip
    codes = {name: p.clone() for name, p in model.named_parameters() if name.endswith((".codes", ".scales"))}
    trainer.train()
    assert sum(losses(trainer)[-2:]) < sum(losses(trainer)[:2])
    assert all(model.get_parameter(name).equal(tensor) for name, tensor in codes.items())
    trainer.save_tuned(tmp_path / "sft", processor)
    wanted = pair_logps(model.eval(), pairs, build)[0]

    assert not any(name.endswith((".codes", ".scales")) for name in load_file(tmp_path / "sft" / "model.safetensors"))
    plain, _ = load_model(str(tmp_path / "sft"), "float32")
    torch.testing.assert_close(pair_logps(plain.eval(), pairs, build)[0], wanted, atol=1e-3, rtol=1e-4)
    assert set(plain.config.low_rank) == set(linears_below(plain, "language_model."))
    quantize_linears(plain, linears_below(plain, "language_model."), quantize)
    assert not has_rounded(plain)

    again, _ = load_of_family(str(tmp_path / "sft"), quantize=quantize)
    reference = pair_logps(again.eval(), pairs, build)[0]
    torch.testing.assert_close(reference, wanted, atol=1e-3, rtol=1e-4)
    args = EpoArguments(str(tmp_path / "epo"), alpha=0.5, bf16=False, gradient_checkpointing=True, **_COMMON)
    preferring = EpoTrainer(
        again, args=args, train_dataset=ScheduledDataset(len(pairs), 64, seed=0),
        data_collator=PairCollator(pairs, build), processing_class=processor,
        peft_config=lora_config(again, 4, 8, 0.0),
    )  # fmt: skip
    assert again.shares_prompts
    preferring.train()
    first = preferring.state.log_history[0]
    assert first["terms/preference"] == pytest.approx(math.log(2), abs=1e-5)
    assert sum(losses(preferring)[-2:]) < sum(losses(preferring)[:2])
    preferring.save_model(str(tmp_path / "epo"))
    policy = pair_logps(preferring.model.eval(), pairs, build)[0]
    with preferring.model.disable_adapter():
        assert pair_logps(preferring.model, pairs, build)[0].equal(reference)
    assert (policy - reference).abs().max() > 0.05
    for held in (quantize, "none"):
        base, _ = load_model(str(tmp_path / "sft"), "float32", quantize=held)
        found = pair_logps(load_adapter(base, str(tmp_path / "epo")).eval(), pairs, build)[0]
        torch.testing.assert_close(found, policy, atol=1e-3, rtol=1e-4)


def test_all_weights_in_few_bits_are_not_tuned(make_model):
    model, _ = make_model()
    quantize_linears(model, linears_below(model, "language_model."), "8bit")
    with pytest.raises(QuantizationError, match="cannot train; leave it out and train the LoRA beside them"):
        prepare_for_tuning(model, 4, 8, trainable=["language_model"])
    assert any(isinstance(module, QuantizedLinear) for module in model.modules())

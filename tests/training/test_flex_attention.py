"""`flex_attention` in training: the numbers of SDPA, whatever else the recipe asks for."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from compressor.curriculum import ScheduledDataset
from epo.model.attention_masks import FlexAttentionError
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.trainer import EpoTrainer

SIZES = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512, "tie_word_embeddings": True,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "use_sliding_window": True, "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip


@pytest.fixture
def on_cpus(monkeypatch):
    """Let FlexAttention run here with gradients, by its own plain PyTorch, which its kernels alone make refuse CPUs.

    What CUDA's kernels make of the same masks is tests/gpu's to see.
    """
    from torch.nn.attention import flex_attention
    from transformers.integrations import flex_attention as theirs

    def plainly(query, key, value, training=False, **kwargs):
        return flex_attention.flex_attention(query, key, value, **kwargs)

    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(theirs, "compile_friendly_flex_attention", plainly)
    monkeypatch.setattr("epo.training.trainer.require_flex", lambda device: None)


@pytest.fixture
def train(make_model, pairs, clip_cache, tmp_path):
    """Train three steps of three pairs; return the trainer and, of each step, loss and gradient norm."""

    def train(windows=False, **changes):
        torch.manual_seed(1)
        llm = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **SIZES)) if windows else None
        model, processor = make_model(llm)
        settings = {
            "max_steps": 3, "per_device_train_batch_size": 3, "learning_rate": 0.05, "logging_steps": 1, "seed": 0,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "beta": 0.3, "alpha": 0.7, "bf16": False,
            "gradient_checkpointing": False, "disable_tqdm": True, "optim": "sgd", "lr_scheduler_type": "constant",
        }  # fmt: skip
        trainer = EpoTrainer(
            model, args=EpoArguments(output_dir=str(tmp_path), **settings | changes), processing_class=processor,
            train_dataset=ScheduledDataset(len(pairs), 9, seed=0), peft_config=lora_config(model, 4, 8, 0.0),
            data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)),
        )  # fmt: skip
        trainer.train()
        logs = [log for log in trainer.state.log_history if "loss" in log]
        return trainer, torch.tensor([[log["loss"], log["grad_norm"]] for log in logs])

    return train


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"tokens_per_row": 400},
        {"windows": True},
        {"windows": True, "tokens_per_row": 400},
        {"gradient_checkpointing": True},
        {"conditional_weight": 0.6, "anchor_weight": 0.4},
    ],
)
def test_it_trains_as_sdpa_does(train, on_cpus, asked, capsys):
    plain, wanted = train(**asked)
    blocks, found = train(flex_attention=True, **asked)
    assert "does nothing" not in capsys.readouterr().out
    attends = [trainer.model.get_base_model().language_model.config._attn_implementation for trainer in (plain, blocks)]
    assert attends == ["sdpa", "flex_attention"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    weights = dict(plain.model.named_parameters())
    for name, parameter in blocks.model.named_parameters():
        assert torch.allclose(parameter, weights[name], atol=1e-5), name


def test_on_a_cpu_it_is_refused_before_anything_is_read(train):
    with pytest.raises(
        FlexAttentionError, match="no backward pass of FlexAttention on CPUs; leave it out, or train on"
    ):
        train(flex_attention=True)


def test_where_prompts_are_not_shared_it_does_nothing_and_says_so(train, on_cpus, monkeypatch, capsys):
    monkeypatch.setattr("epo.model.families.composed.prove_sharing", lambda model, batch: "of a test")
    trainer, _ = train(flex_attention=True, tokens_per_row=400)
    said = (
        "each prompt is read twice a pair, and tokens_per_row does nothing, and flex_attention does nothing: of a test"
    )
    assert said in capsys.readouterr().out
    assert trainer.model.get_base_model().language_model.config._attn_implementation == "sdpa"

"""`tokens_per_row` in training: the numbers of a row a pair, whatever else the recipe asks for, in fewer rows."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from compressor.curriculum import ScheduledDataset
from epo.evaluation.rewards import adapter_logps
from epo.training.arguments import EpoArguments, RowBudgetError
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.trainer import EpoTrainer

TERMS = {"conditional_weight": 0.6, "anchor_weight": 0.4, "emotion_margin": 0.5, "length_normalised": True}


@pytest.fixture
def train(make_model, pairs, clip_cache, tmp_path):
    """Train two steps of four pairs and return the trainer and the shapes that the language model read."""

    def run(llm=None, cache=None, **changes):
        torch.manual_seed(1)
        model, processor = make_model(llm)
        build = PromptBuilder(processor, clip_cache)
        settings = {
            "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 0.05, "logging_steps": 1, "seed": 0,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "beta": 0.3, "alpha": 0.7, "bf16": False,
            "gradient_checkpointing": False, "disable_tqdm": True, "optim": "sgd", "lr_scheduler_type": "constant",
        }  # fmt: skip
        trainer = EpoTrainer(
            model, args=EpoArguments(output_dir=str(tmp_path), **settings | changes),
            train_dataset=ScheduledDataset(len(pairs), 8, seed=0), data_collator=PairCollator(pairs, build),
            processing_class=processor, peft_config=lora_config(model, 4, 8, 0.0),
            reference_cache=None if cache is None else ReferenceCache(str(cache)),
        )  # fmt: skip
        for name, parameter in trainer.model.named_parameters():
            if ".lora_B." in name:
                parameter.data.normal_(std=0.3)
        shapes = []
        model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        )
        trainer.train()
        trainer.held_out = adapter_logps(trainer.model, pairs, build)
        return trainer, shapes

    return run


def numbers(trainer):
    """Everything that was logged of two steps, but for the clock."""
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 2
    return [{name: value for name, value in log.items() if "time" not in name} for log in logs]


def weights(trainer):
    return {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("asked", [TERMS, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}])
def test_packed_is_unpacked(train, asked):
    """Losses, gradient norms, every logged number and the weights after two steps; with terms, with accumulation."""
    plain, many = train(**asked)
    packed, few = train(tokens_per_row=1000, **asked)
    assert sum(rows * long for rows, long in few) < sum(rows * long for rows, long in many)
    assert {rows for rows, _ in few} == {1}  # with another clip's prompts, too
    for ours, theirs in zip(numbers(packed), numbers(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=2e-5)
        assert [ours[key] for key in ("loss", "grad_norm")] == pytest.approx(
            [theirs[key] for key in ("loss", "grad_norm")], rel=1e-5
        )
    before = weights(plain)
    for name, weight in weights(packed).items():
        assert (weight - before[name]).norm() <= 1e-5 * before[name].norm(), name
    for ours, theirs in zip(packed.held_out, plain.held_out, strict=True):
        torch.testing.assert_close(torch.cat(ours), torch.cat(theirs), atol=1e-4, rtol=1e-5)


def test_a_kept_reference_is_the_same_packed(train, tmp_path):
    """Scored in packed rows and kept: the losses of a reference that is read at each step, a row a pair."""
    online, _ = train()
    packed, _ = train(cache=tmp_path / "kept", tokens_per_row=1000)
    assert list((tmp_path / "kept").glob("*/*.safetensors"))
    for ours, theirs in zip(numbers(packed), numbers(online), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_a_model_that_cannot_pack_says_so_and_trains_as_before(train, capsys):
    """A layer that carries a state: two rows a pair, bit for bit what it was without the key."""

    def llm():
        torch.manual_seed(0)
        sizes = {
            "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"],
            "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
        }  # fmt: skip
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("lfm2", **sizes)).eval()

    plain, _ = train(llm())
    capsys.readouterr()
    packed, shapes = train(llm(), tokens_per_row=1000)
    said = [line for line in capsys.readouterr().out.splitlines() if "tokens_per_row" in line]
    assert said == [
        "each prompt is read twice a pair, and tokens_per_row does nothing: layers of kind conv would carry the chosen "
        "reply over"
    ]
    assert {rows for rows, _ in shapes[:3]} == {8} and numbers(packed) == numbers(plain)


def test_a_model_that_shares_prompts_but_cannot_pack_says_so(train, monkeypatch, capsys):
    from epo.model.families.composed import ComposedFamily

    monkeypatch.setattr(ComposedFamily, "pack_rows", lambda self, model, batch, tokens: "it was not asked for")
    _, shapes = train(tokens_per_row=1000, max_steps=1)
    assert "\ntokens_per_row does nothing: it was not asked for\n" in f"\n{capsys.readouterr().out}"
    assert {rows for rows, _ in shapes[:2]} == {4}


@pytest.mark.parametrize("tokens", [0, -5, True, 1.5])
def test_a_budget_of_no_tokens_is_refused(tmp_path, tokens):
    with pytest.raises(RowBudgetError, match=f"tokens_per_row is {tokens}, want a number of tokens, 1 or more; leave"):
        EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, tokens_per_row=tokens)


def test_a_collator_of_ones_own_is_the_one_that_is_read(make_model, pairs, clip_cache, tmp_path):
    """The trainer adds facts of the pairs to what a subclass of `PairCollator` makes of them."""

    class Shorter(PairCollator):
        def __call__(self, rows):
            return super().__call__(rows[:1])

    model, processor = make_model()
    trainer = EpoTrainer(
        model,
        args=EpoArguments(
            output_dir=str(tmp_path), max_steps=1, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True
        ),
        train_dataset=ScheduledDataset(len(pairs), 8, seed=0),
        data_collator=Shorter(pairs, PromptBuilder(processor, clip_cache)),
        processing_class=processor,
    )
    assert len(trainer.data_collator([{"index": 0}, {"index": 1}])["prompt_lengths"]) == 1

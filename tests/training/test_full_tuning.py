"""EPO of all weights of the language model: the reference is what was scored before the first step, and stays that."""

import copy
import shutil

import pytest
import torch
from peft import get_peft_model

from compressor.curriculum import ScheduledDataset
from compressor.text import IGNORE
from epo.evaluation.generate import generate_replies
from epo.evaluation.rewards import pair_logps
from epo.model.export import export_model
from epo.model.family import load_of_family
from epo.model.linears import linears_below
from epo.model.low_rank import add_low_rank
from epo.model.quantized import quantize_linears
from epo.part_names import PartError
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.full_tuning import FullTuningError, prepare_for_full_tuning
from epo.training.lora import lora_config
from epo.training.pair_facts import split_batch
from epo.training.reference_cache import ReferenceCache, ReferenceCacheError
from epo.training.term_needs import TermNeedError
from epo.training.trainer import EpoTrainer, NotEpoError
from launch.training import fit

BETA, ALPHA, RATE, STEPS = 0.3, 0.7, 0.002, 4


@pytest.fixture
def make_trainer(make_model, pairs, clip_cache, tmp_path):
    def make(model=None, cache=tmp_path / "reference", changes=None, **given):
        model, processor = make_model() if model is None else (model, make_model()[1])
        settings = {
            "output_dir": str(tmp_path / "out"), "max_steps": STEPS, "per_device_train_batch_size": 4, "beta": BETA,
            "alpha": ALPHA, "learning_rate": RATE, "lr_scheduler_type": "constant", "optim": "sgd", "logging_steps": 1,
            "max_grad_norm": 1e9, "save_strategy": "no", "report_to": "none", "use_cpu": True, "bf16": False,
            "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        return EpoTrainer(
            model, args=EpoArguments(**(settings | (changes or {}))), processing_class=processor,
            train_dataset=ScheduledDataset(len(pairs), 4 * STEPS, seed=0),
            data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)),
            reference_cache=None if cache is None else ReferenceCache(cache), **({"tune": "all"} | given),
        )  # fmt: skip

    return make


def logged(trainer, name):
    return [log[name] for log in trainer.state.log_history if name in log]


def in_language_model(model):
    return [name for name, _ in model.named_parameters() if name.startswith("language_model.")]


def by_hand(policy, frozen, batch):
    """DPO and the NLL from plain logits of two whole models (arXiv 2305.18290, eq. 7)."""
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)[:, 1:]

    def said(model):
        scores = model(**batch).logits[:, :-1].log_softmax(dim=-1)
        picked = scores.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        return (picked * (labels != IGNORE)).sum(dim=1).chunk(2)

    (chosen, rejected), (frozen_chosen, frozen_rejected) = said(policy), said(frozen)
    margins = BETA * ((chosen - frozen_chosen) - (rejected - frozen_rejected))
    nll = -chosen.sum() / (labels.chunk(2)[0] != IGNORE).sum()
    return torch.log(1 + torch.exp(-margins)).mean() + ALPHA * nll


def test_it_is_dpo_against_a_frozen_copy_step_by_step(make_trainer, make_model, pairs, clip_cache):
    trainer = make_trainer()
    policy, processor = make_model()
    frozen, collate = copy.deepcopy(policy), PairCollator(pairs, PromptBuilder(processor, clip_cache))
    weights = [policy.get_parameter(name) for name in in_language_model(policy)]
    losses, norms = [], []
    for step in range(STEPS):
        rows = [trainer.train_dataset[4 * step + i] for i in range(4)]
        loss = by_hand(policy, frozen, collate(rows))
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= RATE * gradient
        losses.append(loss.item())
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
    trainer.train()
    assert logged(trainer, "loss") == pytest.approx(losses, rel=1e-6)
    assert logged(trainer, "grad_norm") == pytest.approx(norms, rel=1e-5)
    margins = logged(trainer, "rewards/margins")
    assert [margins[0], logged(trainer, "rewards/chosen")[0]] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert abs(margins[-1]) > 0.05
    for name in in_language_model(policy):
        torch.testing.assert_close(trainer.model.get_parameter(name), policy.get_parameter(name), atol=1e-6, rtol=1e-5)


def test_the_gradient_reaches_the_language_model_and_nothing_else(make_trainer):
    trainer = make_trainer(changes={"max_steps": 1})
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    rows = [trainer.train_dataset[i] for i in range(4)]
    trainer.compute_loss(trainer.model, trainer.data_collator(rows)).backward()
    reached = [name for name, p in trainer.model.named_parameters() if p.grad is not None and p.grad.any()]
    assert reached == in_language_model(trainer.model) and len(reached) == 24
    assert all(p.grad is None for name, p in trainer.model.named_parameters() if name not in reached)
    trainer.train()
    after = trainer.model.state_dict()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert moved == set(reached) | {"language_model.lm_head.weight"}  # which is tied


def test_the_saved_folder_is_the_trained_model(make_trainer, make_model, pairs, clip_cache, tmp_path):
    """It answers alike, is exported, and is not read in bfloat16, which would round away what it learnt."""
    for half in make_model():
        half.save_pretrained(tmp_path / "sft")
    content = (tmp_path / "sft" / "model.safetensors").read_bytes()
    trainer = make_trainer(load_of_family(str(tmp_path / "sft"))[0], held_out=pairs[:3], changes={"max_steps": 2})
    trainer.train()
    assert (tmp_path / "sft" / "model.safetensors").read_bytes() == content
    out = tmp_path / "epo"
    trainer.save_tuned(out, trainer.processing_class)
    assert not (out / "adapter_config.json").exists()
    exported = export_model(str(out), tmp_path / "exported")
    build = PromptBuilder(trainer.processing_class, clip_cache)
    wanted, prompts = pair_logps(trainer.model, pairs, build), [build(pair.reply) for pair in pairs[:3]]
    said = generate_replies(trainer.model, build.processor, prompts, max_new_tokens=8)
    for folder in (out, exported):
        model, processor = load_of_family(str(folder))
        again = PromptBuilder(processor, clip_cache)
        torch.testing.assert_close(pair_logps(model, pairs, again), wanted, atol=1e-5, rtol=1e-6)
        assert generate_replies(model, processor, [again(pair.reply) for pair in pairs[:3]], max_new_tokens=8) == said
    before = pair_logps(make_model()[0], pairs[:3], build)
    torch.testing.assert_close(trainer.reference_of_held_out(), before, atol=1e-5, rtol=1e-6)
    assert (wanted[0][:3] - before[0]).abs().min() > 0.01
    with pytest.raises(PartError, match="was tuned in float32, and bfloat16 would round away what it learnt"):
        load_of_family(str(out), "bfloat16", bf16=True)


@pytest.mark.parametrize("in_float32", [True, False])
def test_low_rank_changes_are_taken_in_or_train_too(make_model, pairs, clip_cache, in_float32):
    model, processor = make_model()
    layers = linears_below(model, "language_model.")
    model.config.low_rank = dict.fromkeys(layers, 2)
    add_low_rank(model, model.config.low_rank)
    for name, parameter in model.named_parameters():
        if name.endswith((".up", ".down")):
            parameter.data.normal_(std=0.1)
    build = PromptBuilder(processor, clip_cache)
    before = pair_logps(model, pairs[:2], build)
    prepare_for_full_tuning(model, in_float32)
    torch.testing.assert_close(pair_logps(model, pairs[:2], build), before, atol=1e-3, rtol=1e-5)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == in_language_model(model) and len(trained) == (24 if in_float32 else 24 + 2 * len(layers))
    assert (model.config.low_rank is None) == in_float32


def test_what_was_computed_in_bfloat16_may_be_read_so(make_trainer, tmp_path):
    trainer = make_trainer(changes={"max_steps": 1, "bf16": True})
    trainer.train()
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert logged(trainer, "rewards/margins") == pytest.approx([0.0], abs=0.05)
    trainer.save_tuned(tmp_path / "epo", trainer.processing_class)
    assert load_of_family(str(tmp_path / "epo"), "bfloat16", bf16=True)[0].config.low_rank == {}


def test_a_reference_that_is_not_kept_whole_cannot_be_made_up_for(make_trainer, tmp_path):
    """After the first step: a cache that lost something ends the stage in one line, and a new one cannot begin."""
    whole = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    fit(make_trainer(changes=whole))
    resumed = make_trainer(changes=whole | {"max_steps": 3})
    shutil.copytree(tmp_path / "reference", tmp_path / "copy")
    shutil.rmtree(tmp_path / "reference")
    with pytest.raises(
        ReferenceCacheError, match="8 of 8 pairs are not known in .*, and after 2 steps the ref"
    ) as told:
        fit(resumed)
    assert "\n" not in str(told.value)
    shutil.copytree(tmp_path / "copy", tmp_path / "reference")
    done = make_trainer(changes=whole | {"max_steps": 3})
    fit(done)
    batch = done._prepare_inputs(done.data_collator([{"index": 0}]))
    with pytest.raises(FullTuningError, match="the reference is gone: 3 steps have moved the weights"):
        done._let_reference_read(split_batch(batch)[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tune": "full"}, "tune is 'full', want one of 'lora', 'all'"),
        ({"cache": None}, "nothing else says what the reference made of the pairs: give reference_cache"),
        ({"peft_config": "lora"}, "a LoRA is given too, which would do nothing: leave it out"),
        ({"model": "lora"}, "a LoRA is given too, which would do nothing: leave it out"),
        ({"model": "8bit"}, "weights held in few bits cannot train: load the model without quantize"),
        (
            {"changes": {"conditional_weight": 0.5}},
            "conditional_weight is 0.5, which lets the reference read each gold",
        ),
    ],
)
def test_what_cannot_be_is_refused(make_trainer, make_model, given, message):
    model = make_model()[0]
    if given.get("model") == "lora":
        given = {"model": get_peft_model(model, lora_config(model, 4, 8, 0.0))}
    elif given.get("model") == "8bit":
        quantize_linears(model, linears_below(model, "language_model."), "8bit")
        given = {"model": model}
    elif "peft_config" in given:
        given = {"peft_config": lora_config(model, 4, 8, 0.0)}
    with pytest.raises((FullTuningError, TermNeedError), match=message) as told:
        make_trainer(**given)
    assert "\n" not in str(told.value)


def test_a_second_model_may_be_the_reference(make_trainer, make_model):
    """Whoever has the memory needs no cache, and may ask for terms that read more than the pairs."""
    trainer = make_trainer(cache=None, ref_model=make_model()[0], changes={"conditional_weight": 0.5, "max_steps": 2})
    trainer.train()
    assert logged(trainer, "rewards/margins")[0] == pytest.approx(0.0, abs=1e-6)
    assert abs(logged(trainer, "rewards/margins")[1]) > 0.01


def test_what_would_do_nothing_is_refused(make_trainer, make_model, pairs):
    with pytest.raises(NotEpoError, match="held_out would do nothing: its reference scores lie in reference_cache"):
        make_trainer(cache=None, ref_model=make_model()[0], held_out=pairs)

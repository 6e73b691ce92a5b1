"""EPO in training: its loss is TRL's, the reference does not move, and what would move it is refused."""

import math
from dataclasses import replace

import pytest
import torch
from peft import get_peft_model
from trl import DPOConfig, DPOTrainer

from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import NonFiniteError
from compressor.text import IGNORE
from epo.evaluation.rewards import adapter_logps, pair_logps, reward_report
from epo.model.token_scores import sequence_logps
from epo.preferences.pair import PreferencePair
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.objective import TERMS, Term, implicit_reward
from epo.training.preference_losses import LOSSES
from epo.training.schedule import schedule_rows
from epo.training.terms.preference import preference_loss
from epo.training.trainer import EpoTrainer, NotEpoError, ReferenceDriftError

BETA, ALPHA = 0.3, 0.7


@pytest.fixture
def build(model_and_processor, clip_cache):
    return PromptBuilder(model_and_processor[1], clip_cache)


@pytest.fixture
def make_trainer(model_and_processor, build, pairs, tmp_path):
    def make(model=None, lora=True, train_pairs=pairs, **changes):
        settings = {
            "max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "beta": BETA, "alpha": ALPHA,
            "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        model = model_and_processor[0] if model is None else model
        return EpoTrainer(
            model=model, args=EpoArguments(output_dir=str(tmp_path), **(settings | changes)),
            train_dataset=ScheduledDataset(len(pairs), 64, seed=0), data_collator=PairCollator(train_pairs, build),
            processing_class=build.processor, peft_config=lora_config(model, 4, 8, 0.0) if lora else None,
        )  # fmt: skip

    return make


def shake_lora(model, scale=0.3):
    """Give the adapters something to say: LoRA starts as zero."""
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=scale)


def reference_loss(model, batch):
    """EPO worked out from plain logits."""
    batch = dict(batch)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
    with torch.no_grad():
        logits = model(**batch).logits
        with model.disable_adapter():
            base = model(**batch).logits
    policy, reference = sequence_logps(logits, labels).chunk(2), sequence_logps(base, labels).chunk(2)
    rewards = [implicit_reward(p, r, BETA) for p, r in zip(policy, reference, strict=True)]
    num_tokens = (labels.chunk(2)[0] != IGNORE).sum()
    nll = -policy[0].sum() / num_tokens
    return (preference_loss(rewards[0] - rewards[1]) + ALPHA * nll).item(), nll.item()


@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_the_loss_is_trls(make_trainer, pairs, build, alpha):
    """TRL's own `_compute_loss`, asked for sigmoid and sft, on the same model and batch; its gradient too."""
    trainer = make_trainer(alpha=alpha)
    shake_lora(trainer.model)
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trainer.loss_types == ["sigmoid", "sft"] and trainer.loss_weights == [1.0, alpha]
    theirs = DPOTrainer._compute_loss(trainer, trainer.model, dict(batch), False)
    named = {name: numbers[-1] for name, numbers in trainer._metrics["train"].items()}
    trainer._metrics["train"].clear()
    ours = trainer.compute_loss(trainer.model, dict(batch))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    for a, b in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    found = {name: numbers[-1] for name, numbers in trainer._metrics["train"].items()}
    assert found.pop("num_tokens") == 2 * named.pop("num_tokens")  # counted once by each
    terms = {name: found.pop(f"terms/{name}") for name in ("preference", "gold_nll")}
    assert terms["preference"] + alpha * terms["gold_nll"] == pytest.approx(ours.item(), abs=1e-5)
    found.pop("logps/chosen_shift")
    assert found == pytest.approx(named, abs=1e-5)


def test_every_preference_loss_is_trls(make_trainer, pairs, build):
    """TRL's own `_compute_loss` under each name, on the same model and batch, and its gradient."""
    trainer = make_trainer()
    shake_lora(trainer.model)
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    seen = set()
    for name, loss in LOSSES.items():
        trainer.args.preference_loss, trainer.loss_types = name, [name, "sft"]
        trainer.args.label_smoothing = trainer.label_smoothing = 0.2 if "label_smoothing" in loss.reads else 0.0
        theirs = DPOTrainer._compute_loss(trainer, trainer.model, dict(batch), False)
        ours = trainer.compute_loss(trainer.model, dict(batch))
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5), name
        wanted = torch.autograd.grad(theirs, weights)
        scale = max(gradient.abs().max().item() for gradient in wanted)
        for a, b in zip(torch.autograd.grad(ours, weights), wanted, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5 * scale, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
        seen.add(round(ours.item(), 5))
    assert len(seen) == len(LOSSES)


def test_the_loss_is_that_of_plain_logits(make_trainer, pairs, build):
    trainer = make_trainer()
    shake_lora(trainer.model)
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    wanted, nll = reference_loss(trainer.model, batch)
    assert abs(wanted - math.log(2) - ALPHA * nll) > 0.01  # the preference term says something here
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(wanted, abs=1e-5)


def test_the_first_step_costs_ln_2_and_the_nll(make_trainer, pairs, build):
    trainer = make_trainer()
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    _, nll = reference_loss(trainer.model, batch)
    loss = trainer.compute_loss(trainer.model, batch).item()
    assert loss == pytest.approx(math.log(2) + ALPHA * nll, abs=1e-5)


def test_the_reference_stands_still_while_the_policy_moves(make_trainer, pairs, build):
    trainer = make_trainer()
    model = trainer.model
    before = pair_logps(model, pairs, build)
    trainer.train()
    with model.disable_adapter():
        reference = pair_logps(model, pairs, build)
    policy = pair_logps(model, pairs, build)
    assert all(a.equal(b) for a, b in zip(reference, before, strict=True))
    assert all((a - b).abs().min() > 0.01 for a, b in zip(policy, before, strict=True))
    margins = [log["rewards/margins"] for log in trainer.state.log_history if "rewards/margins" in log]
    assert margins[0] == pytest.approx(0.0, abs=1e-5) and margins[-1] > 0.05


def test_pairs_that_people_ranked_are_learnt_without_labels(make_trainer, pairs, build):
    """Neither side begins with a label; the loss is that of the words alone, and it trains."""
    bare = [replace(p, reply=replace(p.reply, emotion=None), rejected_emotion=None) for p in pairs]
    batch = PairCollator(bare, build)([{"index": i} for i in range(4)])
    for row, (ids, mask) in enumerate(zip(batch["input_ids"], batch["completion_mask"], strict=True)):
        said = build.processor.tokenizer.decode(ids[mask.bool()])
        assert said.startswith(bare[row % 4].chosen if row < 4 else bare[row % 4].rejected)
    trainer = make_trainer(train_pairs=bare)
    _, nll = reference_loss(trainer.model, batch)
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(math.log(2) + ALPHA * nll, abs=1e-5)
    trainer.train()
    margins = [log["rewards/margins"] for log in trainer.state.log_history if "rewards/margins" in log]
    assert margins[-1] > 0.05
    report = reward_report(*adapter_logps(trainer.model, bare, build), bare, BETA)
    assert report["reward_accuracy"] > 0.5


def test_only_adapters_train_and_only_in_the_language_model(make_trainer):
    names = [name for name, p in make_trainer().model.named_parameters() if p.requires_grad]
    assert names and all(".lora_" in name and ".language_model." in name for name in names)


def test_weights_beside_the_adapter_are_refused(make_trainer, model_and_processor):
    model = get_peft_model(model_and_processor[0], lora_config(model_and_processor[0], 4, 8, 0.0))
    model.get_base_model().clip_head.weight.requires_grad_(True)
    with pytest.raises(ReferenceDriftError, match=r"1 weights beside the LoRA .*clip_head.weight.*launch/sft.py"):
        make_trainer(model, lora=False)


def test_a_loss_that_is_not_finite_stops_before_the_step(make_trainer):
    trainer = make_trainer()
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.model.get_base_model().language_model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(NonFiniteError, match="step 0"):
        trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_a_gradient_that_is_not_finite_stops_before_the_step(make_trainer):
    trainer = make_trainer()
    weights = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    before = {name: parameter.clone() for name, parameter in weights.items()}
    next(iter(weights.values())).register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    with pytest.raises(NonFiniteError, match="the gradient is not finite at step 0"):
        trainer.train()
    assert all(weights[name].equal(tensor) for name, tensor in before.items())


def test_nothing_is_dropped_in_training(make_llm, make_model, make_trainer, pairs, build):
    """Not even where a layer keeps the rate as a number of its own: Qwen's attention."""
    model, _ = make_model(make_llm(attention_dropout=0.5))
    trainer = make_trainer(model)
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    trainer.model.train()
    losses = [trainer.compute_loss(trainer.model, batch).item() for _ in range(2)]
    trainer.model.eval()
    assert losses == [trainer.compute_loss(trainer.model, batch).item()] * 2


def test_both_rows_of_a_pair_see_the_same_clip(make_trainer, model_and_processor, pairs, build):
    """Prompts that are not shared, and an extractor with dropout and augmentation: policy, reference and rows agree."""
    config = model_and_processor[0].extractor.config
    config.augmentation = 1.0
    for module in model_and_processor[0].extractor.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.5
    trainer = make_trainer()
    same = [PreferencePair(pair.reply, pair.chosen, pair.chosen_emotion) for pair in pairs]
    trainer.model.get_base_model().shares_prompts = False
    batch = PairCollator(same, build)([{"index": i} for i in range(4)])
    trainer.model.train()
    trainer.compute_loss(trainer.model, batch)
    numbers = trainer._metrics["train"]
    assert numbers["logps/chosen"] == pytest.approx(numbers["logps/rejected"], rel=1e-6)
    assert numbers["rewards/margins"][0] == pytest.approx(0.0, abs=1e-5)


def test_rows_are_positions_of_the_schedule():
    """Seven pairs in batches of four: the second batch goes on in the next pass, and none is short."""
    schedule = ScheduledDataset(7, 8, seed=0)
    rows = schedule_rows(schedule)["index"]
    assert rows == [schedule[position]["index"] for position in range(8)]
    assert sorted(rows[:7]) == list(range(7)) and rows[7] == ScheduledDataset(7, 14, seed=0)[7]["index"]


def test_plain_dpo_is_refused(model_and_processor, tmp_path):
    model, processor = model_and_processor
    plain = DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(NotEpoError, match="args is a DPOConfig, with which this would be plain DPO; want .*EpoArgum"):
        EpoTrainer(model, args=plain, train_dataset=ScheduledDataset(4, 4, seed=0), processing_class=processor)


def test_rows_in_passes_are_refused(model_and_processor, tmp_path):
    model, processor = model_and_processor
    args = EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    for rows, message in (
        ([{"index": 0}], "holds a dict; want pairs, such as epo.read"),
        ([], "is empty"),
    ):
        with pytest.raises(NotEpoError, match=f"train_dataset {message}"):
            EpoTrainer(model, args=args, train_dataset=rows, processing_class=processor)


def test_pairs_are_all_it_takes(make_model, pairs, clip_cache, tmp_path):
    """From plain pairs the trainer makes the schedule, the collator and the LoRA that a stage hands it."""

    def logged(**given):
        torch.manual_seed(1)
        model, processor = make_model()
        args = EpoArguments(
            output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, seed=0,
            logging_steps=1,
            save_strategy="no", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
            disable_tqdm=True,
        )  # fmt: skip
        made = {name: make(model, processor, args) for name, make in given.items()}
        trainer = EpoTrainer(model, args=args, processing_class=processor, **{"train_dataset": pairs} | made)
        trainer.train()
        return [log["loss"] for log in trainer.state.log_history if "loss" in log]

    lengths = [sum(len(turn.text) for turn in pair.reply.history) for pair in pairs]
    staged = logged(
        train_dataset=lambda *_: ScheduledDataset(len(pairs), 12, 0, lengths, 4),
        data_collator=lambda model, processor, args: PairCollator(pairs, PromptBuilder(processor, clip_cache)),
        peft_config=lambda model, *_: lora_config(model, 16, 32, 0.0),
    )
    assert len(staged) == 3 and logged() == staged


def test_a_term_from_outside_is_added_with_its_weight(make_trainer, pairs, build):
    """`extra_terms` names it; it is logged under its name, and EPO's own terms cannot be named again."""
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    TERMS.register("brevity", Term("few nats in all", lambda scores, args: -scores.chosen_logps.mean() / 100))
    try:
        trainer = make_trainer(extra_terms={"brevity": 0.5})
        loss = trainer.compute_loss(trainer.model, dict(batch)).item()
        terms = {name: trainer._metrics["train"][f"terms/{name}"][0] for name in ("preference", "gold_nll", "brevity")}
    finally:
        TERMS.forget("brevity")
    assert terms["brevity"] > 0
    assert loss == pytest.approx(terms["preference"] + ALPHA * terms["gold_nll"] + 0.5 * terms["brevity"], abs=1e-5)

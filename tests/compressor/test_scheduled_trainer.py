"""The base trainer: terms are sums over counts, a broken loss stops, accumulation divides, order is the schedule."""

import logging

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from compressor.curriculum import Curriculum, ScheduledDataset
from compressor.data import CompressionCollator, History
from compressor.fitting import FixedParts
from compressor.placeholders import MEMORY_TOKEN
from compressor.scheduled_trainer import LossTerms, NonFiniteError, ScheduledTrainer, require_finite
from compressor.trainer import CompressorTrainer, CurriculumCollator, ObjectiveWeights
from compressor.utterance import Utterance


class Line(nn.Module):
    """y = w x, to be pulled to 0."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))


class LineTrainer(ScheduledTrainer):
    """Minimises the mean of (w x)^2 and keeps every batch it sees."""

    def loss_terms(self, model, inputs):
        self.seen = [*getattr(self, "seen", []), inputs["x"].tolist()]
        loss = (model.w * inputs["x"]).square().mean()
        return {"loss": loss, "half": loss / 2}


def collate(rows):
    return {"x": torch.tensor([float(row["index"]) for row in rows])}


def trainer(tmp_path, num_samples=8, **changes):
    settings = {
        "max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 0.1,
        "optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "use_cpu": True, "remove_unused_columns": False,
        "disable_tqdm": True,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(tmp_path), **(settings | changes))
    dataset = ScheduledDataset(4, num_samples, seed=0)
    return LineTrainer(model=Line(), args=args, train_dataset=dataset, data_collator=collate)


def test_terms_are_means_since_the_last_log():
    terms = LossTerms()
    terms.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0, dtype=torch.bfloat16)})
    terms.add({"a": torch.tensor(2.0), "b": torch.tensor(0.0, dtype=torch.bfloat16)})
    assert terms.pop() == {"a": 1.5, "b": 2.0}
    assert terms.pop() == {}


def test_terms_hold_no_graph():
    terms = LossTerms()
    terms.add({"a": torch.tensor(1.0, requires_grad=True) * 2})
    assert not terms._sums["a"].requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops(value):
    with pytest.raises(NonFiniteError, match="the loss is not finite at step 7; lower learning_rate"):
        require_finite(torch.tensor(value), step=7)
    require_finite(torch.tensor(1e30), step=7)


def test_positions_are_read_in_order(tmp_path):
    run = trainer(tmp_path)
    run.train()
    order = [float(ScheduledDataset(4, 8, seed=0)[p]["index"]) for p in range(8)]
    assert run.seen == [order[i : i + 2] for i in range(0, 8, 2)]


def test_accumulation_takes_the_mean_over_the_whole_batch(tmp_path):
    """Each step reads x = 0, 1, 2, 3 once: mean of x^2 is 3.5, so w becomes w - 0.1 x 2 x 3.5 w = 0.3 w."""
    run = trainer(tmp_path)
    run.train()
    assert run.model.w.item() == pytest.approx(2.0 * 0.3 * 0.3, rel=1e-5)
    steps = [log for log in run.state.log_history if "half" in log]
    assert [log["loss"] for log in steps] == pytest.approx([14.0, 14.0 * 0.09], rel=1e-3)
    assert [log["half"] for log in steps] == pytest.approx([7.0, 7.0 * 0.09], rel=1e-4)


def test_the_optimizer_does_not_step_on_a_broken_loss(tmp_path):
    """The first half of the first accumulated batch is fine, the second is not."""
    run = trainer(tmp_path)
    first = ScheduledDataset(4, 8, seed=0)[0]["index"]
    run.data_collator = lambda rows: {"x": torch.tensor([1.0 if rows[0]["index"] == first else float("nan")])}
    with pytest.raises(NonFiniteError, match="step 0"):
        run.train()
    assert run.model.w.item() == 2.0 and len(run.seen) == 2


def test_evaluation_gives_the_loss_and_does_not_count_as_training(tmp_path):
    run = trainer(tmp_path, per_device_eval_batch_size=4)
    metrics = run.evaluate(ScheduledDataset(4, 4, seed=0))
    assert metrics["eval_loss"] == pytest.approx(14.0)
    assert run._terms.pop() == {}


def test_a_subclass_must_say_what_it_minimises():
    with pytest.raises(NotImplementedError, match="ScheduledTrainer must say what it minimises"):
        ScheduledTrainer.loss_terms(ScheduledTrainer.__new__(ScheduledTrainer), nn.Identity(), {})


def test_the_compressor_learns_through_a_frozen_model(tmp_path, make_llm, make_compressor, make_tokenizer, caplog):
    """After a few steps on two dialogues the loss has fallen, the language model has not moved and is not saved."""
    caplog.set_level(logging.ERROR)
    words = make_tokenizer()
    words.add_tokens([MEMORY_TOKEN], special_tokens=True)
    histories = [
        History((Utterance("user", "I met Mira."),), FixedParts(after="Who?"), "Mira."),
        History((Utterance("user", "I met Otto."),), FixedParts(after="Who?"), "Otto."),
    ]
    collator = CompressionCollator(make_tokenizer(), words, vocab_size=320, num_memory_tokens=2)
    llm = make_llm()
    before = {name: tensor.clone() for name, tensor in llm.state_dict().items()}
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=8, per_device_train_batch_size=2, learning_rate=1e-2, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    run = CompressorTrainer(
        model=make_compressor(), args=args, train_dataset=ScheduledDataset(2, 16, seed=0),
        data_collator=CurriculumCollator(histories, Curriculum(), collator),
        llm=llm, memory_id=words.convert_tokens_to_ids(MEMORY_TOKEN), 
        weights=ObjectiveWeights(1.0, 0.5, 0.25),
    )  # fmt: skip
    run.train()
    logs = [log for log in run.state.log_history if "next_reply" in log]
    for log in logs:
        assert log["loss"] == pytest.approx(
            log["next_reply"] + 0.5 * log["reconstruction"] + 0.25 * log["distillation"], abs=3e-3
        )
        assert log["tokens_per_second"] > 0
    assert logs[-1]["next_reply"] < 0.8 * logs[0]["next_reply"]
    assert all(tensor.equal(before[name]) for name, tensor in llm.state_dict().items())
    assert not any("llm" in name for name in run.model.state_dict())

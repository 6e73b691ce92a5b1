"""A gradient that is not finite, though the loss is, goes neither into a weight nor into a checkpoint."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import NonFiniteError, ScheduledTrainer


class BrokenGradient(torch.autograd.Function):
    """Returns what it is given, and a gradient of NaN from the third step on."""

    num_backward = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        BrokenGradient.num_backward += 1
        return gradient if BrokenGradient.num_backward <= 2 else torch.full_like(gradient, float("nan"))


class Line(nn.Module):
    """y = w x, and a weight whose gradient stays fine."""

    def __init__(self):
        super().__init__()
        self.w, self.fine = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(1.0))


class LineTrainer(ScheduledTrainer):
    def loss_terms(self, model, inputs):
        loss = (BrokenGradient.apply(model.w) * inputs["x"]).square().mean()
        return {"loss": loss + model.fine.square(), "half": loss / 2}


@pytest.fixture
def run(tmp_path):
    def run(**changes):
        BrokenGradient.num_backward = 0
        settings = {
            "max_steps": 6, "per_device_train_batch_size": 2, "learning_rate": 0.01, "logging_steps": 1,
            "save_steps": 1, "report_to": "none", "use_cpu": True, "remove_unused_columns": False,
            "disable_tqdm": True,
        }  # fmt: skip
        return LineTrainer(
            model=Line(), args=TrainingArguments(output_dir=str(tmp_path), **(settings | changes)),
            train_dataset=ScheduledDataset(4, 12, seed=0),
            data_collator=lambda rows: {"x": torch.tensor([1.0 + row["index"] for row in rows])},
        )  # fmt: skip

    return run


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_broken_gradient_stops_before_the_step(run, tmp_path, max_grad_norm):
    trainer = run(max_grad_norm=max_grad_norm)
    with pytest.raises(NonFiniteError, match="the gradient is not finite at step 2; lower learning_rate, .* untouched"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    saved = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    now = trainer.model.state_dict()
    assert saved.keys() == now.keys() and all(saved[name].equal(now[name]) for name in saved)
    assert 0 < saved["w"].item() < 2.0


def test_a_gradient_that_stays_finite_goes_on(run):
    trainer = run(max_steps=2, save_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 2

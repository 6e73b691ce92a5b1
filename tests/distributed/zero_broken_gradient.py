"""One of two ranks under DeepSpeed: its third gradient is not finite, and it writes down how that ended.

Started by test_two_ranks.py with `accelerate launch`, as users start a stage: `zero_broken_gradient.py OUTPUT_FOLDER`.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import TrainingArguments

from launch import stage
from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import NonFiniteError, ScheduledTrainer
from compressor.seams import gathered_state


class BrokenOnRankOne(torch.autograd.Function):
    """Returns what it is given; from the third time on rank 1 gives back a gradient of NaN."""

    num_backward = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        BrokenOnRankOne.num_backward += 1
        is_broken = BrokenOnRankOne.num_backward > 2 and os.environ["RANK"] == "1"
        return torch.full_like(gradient, float("nan")) if is_broken else gradient


class BrokenTrainer(ScheduledTrainer):
    def loss_terms(self, model, inputs):
        loss = BrokenOnRankOne.apply(model(inputs["x"])).square().mean()
        return {"loss": loss, "half": loss / 2}


def main(folder):
    args = TrainingArguments(
        output_dir=str(folder / "run"), max_steps=5, per_device_train_batch_size=1, learning_rate=0.01, use_cpu=True,
        ddp_backend="gloo", save_steps=1, report_to="none", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = BrokenTrainer(
        model=nn.Linear(4, 4), args=args, train_dataset=ScheduledDataset(4, 10, seed=0),
        data_collator=lambda rows: {"x": torch.ones(len(rows), 4)},
    )  # fmt: skip
    message = ""
    try:
        trainer.train()
    except NonFiniteError as error:
        message = str(error)
    state = gathered_state(trainer)
    found = {
        "message": message,
        "step": trainer.state.global_step,
        "is_finite": all(bool(torch.isfinite(tensor).all()) for tensor in state.values()),
        "checkpoints": sorted(path.name for path in (folder / "run").glob("checkpoint-*")),
    }
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    stage.main(lambda: main(Path(sys.argv[1])), is_stage=False)

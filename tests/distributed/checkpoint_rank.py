"""One of several ranks that train a small network, stop and go on: `checkpoint_rank.py OUTPUT RESULT [STOP [SIGNAL]]`.

With a signal it is the last rank's alone, in the step before the one that they stop after.

It writes, on rank 0, the weights that came out and what was said, and on a refusal its text.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from launch import stage
from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.seams import gathered_state, skip_unused_operator
from launch.training import fit

BATCH, PER_DEVICE, STEPS = 4, 1, int(os.environ.get("STEPS", "6"))  # more for benchmarks/kills.py


class LineTrainer(ScheduledTrainer):
    def loss_terms(self, model, inputs):
        loss = (model(inputs["x"]) - inputs["y"]).square().mean()
        return {"loss": loss, "half": loss / 2}


def make_network():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))


class StopAt(TrainerCallback):
    def __init__(self, step, number):
        self._step, self._number = step, number

    def on_step_begin(self, args, state, control, **kwargs):
        if self._number and state.global_step == self._step - 1 and stage.rank() == stage.num_ranks() - 1:
            os.kill(os.getpid(), self._number)

    def on_step_end(self, args, state, control, **kwargs):
        if not self._number and state.global_step == self._step:
            control.should_training_stop = True


def collate(rows):
    x = torch.tensor([[1.0, row["index"], row["seed"] % 7, row["progress"]] for row in rows])
    return {"x": x, "y": x.flip(1)}


def main(output, result, stop=0, number=0):
    skip_unused_operator()
    backend = "gloo" if stage.num_ranks() > 1 else None
    args = TrainingArguments(
        output_dir=output, max_steps=STEPS, per_device_train_batch_size=PER_DEVICE, learning_rate=0.05, use_cpu=True,
        gradient_accumulation_steps=BATCH // PER_DEVICE // stage.num_ranks(), lr_scheduler_type="cosine",
        ddp_backend=backend,
        save_steps=2, save_total_limit=2, report_to="none", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = LineTrainer(
        model=make_network(), args=args,
        train_dataset=ScheduledDataset(5, STEPS * BATCH, seed=0), data_collator=collate,
    )  # fmt: skip
    if stop:
        trainer.add_callback(StopAt(stop, number))
    said, refusal = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            fit(trainer)
        except (ValueError, SystemExit) as error:
            refusal = str(error)
    state = gathered_state(trainer)
    if stage.rank() == 0:
        weights = {name: tensor.tolist() for name, tensor in state.items()}
        found = {"said": said.getvalue(), "refusal": refusal, "weights": weights, "step": trainer.state.global_step}
        Path(result).write_text(json.dumps(found))


if __name__ == "__main__":
    stage.main(lambda: main(*sys.argv[1:3], *map(int, sys.argv[3:])), is_stage=False)

"""Training shows lines or a bar of its own on rank 0, and neither transformers' bar nor its dictionaries."""

import re

import pytest
import torch
from torch import nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from launch.training_progress import show_own_progress


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, x, y):
        return {"loss": ((self.slope * x - y) ** 2).mean()}


def train(folder, max_steps, logging_steps, disable_tqdm=False):
    args = TrainingArguments(
        str(folder),
        max_steps=max_steps,
        logging_steps=logging_steps,
        disable_tqdm=disable_tqdm,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
    )
    rows = [{"x": torch.tensor(1.0), "y": torch.tensor(2.0)}] * 8
    trainer = Trainer(Line(), args, train_dataset=rows)
    show_own_progress(trainer, "line")
    trainer.train()
    return trainer


@pytest.mark.parametrize("disable_tqdm", [False, True])
def test_the_first_logging_step_and_the_end_are_shown_in_between_every_ten_seconds(tmp_path, capfd, disable_tqdm):
    trainer = train(tmp_path, 6, 2, disable_tqdm)
    shown = "".join(capfd.readouterr())
    assert "{'loss'" not in shown and "%|" not in shown
    first, last = (line for line in shown.splitlines() if line.startswith("line: "))
    assert re.fullmatch(r"line: 2/6 steps, loss 4, .*left", first)  # (0 - 2)^2, to four digits
    assert re.fullmatch(r"line: 6/6 steps, loss [\d.]+, .*in all", last)
    classes = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert ProgressCallback not in classes and PrinterCallback not in classes


def test_a_run_shorter_than_a_logging_step_shows_its_mean_loss(tmp_path, capfd):
    train(tmp_path, 3, 10)
    assert re.search(r"^line: 3/3 steps, mean loss [\d.]+, .*in all\n\Z", capfd.readouterr().err, re.MULTILINE)


def test_other_ranks_show_nothing(tmp_path, capfd, monkeypatch):
    trainer = train(tmp_path, 1, 1)
    capfd.readouterr()
    monkeypatch.setenv("RANK", "1")
    handler = trainer.callback_handler
    for event in ("on_train_begin", "on_step_end", "on_train_end"):
        getattr(handler, event)(trainer.args, trainer.state, trainer.control)
    assert capfd.readouterr() == ("", "")

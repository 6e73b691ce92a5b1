"""Shows how training goes, in place of transformers' bar and printed dictionaries."""

from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from compressor.progress import Progress

_SHOWN = {"loss": "loss", "rewards/accuracies": "reward accuracy"}
"""What is shown of all that a trainer logs, and in which words; MLflow has the rest."""


class ShowProgress(TrainerCallback):
    """A bar with the loss on a terminal; elsewhere lines at logging steps, ten seconds apart, and a last one."""

    _progress: Progress

    def __init__(self, label: str) -> None:
        """Name the training, such as "sft"."""
        self._label = label
        self._is_first_log = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to count, where a resumed run left off."""
        self._progress = Progress(self._label, state.max_steps, "steps", done=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step."""
        self._progress.advance(state.global_step - self._progress.done, may_write=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the numbers of a logging step."""
        if logs is None or "loss" not in logs:
            if self._is_first_log and logs is not None and "train_loss" in logs:  # a run shorter than a logging step
                self._progress.note(f"mean loss {logs['train_loss']:.4g}")
            return
        self._progress.note(", ".join(f"{name} {logs[key]:.4g}" for key, name in _SHOWN.items() if key in logs))
        if state.global_step < state.max_steps:
            self._progress.write_line(only_if_due=not self._is_first_log)
        self._is_first_log = False

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the last step."""
        self._progress.close()


def show_own_progress(trainer: Trainer, label: str) -> None:
    """Let a trainer show its progress through `ShowProgress` alone."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ShowProgress(label))

"""Stopping when asked to: a signal to any rank ends all of them at the same step, with a checkpoint of it."""

import contextlib
import signal
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""What schedulers and closed terminals send. Ctrl-C ends a run at once, as users expect of it."""

_SAME_SIGNAL_S = 5.0


class StopOnSignal(TrainerCallback):
    """Notes a signal while training goes on, and stops all ranks together at the end of a step.

    Ranks may be signalled seconds apart, or only one of them: at each step they compare notes. A second signal, not
    within five seconds of the first, since launchers pass on what a rank has heard already, ends the process at once.
    What a signal would have done before and after training is left as it was.

    Attributes:
        received: number of the signal that training stopped for, the same on all ranks; None without one.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._mine, self._heard_s = 0, 0.0
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen, but to what is ignored, as SIGHUP under `nohup`."""
        with contextlib.suppress(ValueError):  # not the main thread: signals are someone else's business
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask all ranks, and stop with a checkpoint if any has heard a signal."""
        number = self._mine
        if dist.is_initialized():
            heard = torch.tensor(number, device=args.device)
            dist.all_reduce(heard, op=dist.ReduceOp.MAX)
            number = int(heard.item())
        if number:
            self.received = number
            control.should_training_stop = True
            control.should_save = control.should_save or args.save_strategy != "no"

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen no more."""
        self.end()

    def end(self) -> None:
        """Put every handler back, however training ended."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if not self._mine:
            self._mine, self._heard_s = number, now_s
        elif now_s - self._heard_s > _SAME_SIGNAL_S:
            raise SystemExit(128 + number)

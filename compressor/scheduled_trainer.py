"""A transformers Trainer that reads positions in order, names its loss terms, and stops on what is not finite."""

import math
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import TrainingArguments

from compressor.checkpointed_trainer import CheckpointedTrainer, RaisedByAllError
from compressor.fixed_settings import FIXED_IN_TRAINING, refuse_changed
from compressor.precision import keep_trained_in_float32


class NonFiniteError(RaisedByAllError):
    """Loss or gradient became NaN or infinite; raised on every rank together, before weights or checkpoint get it."""

    def __init__(self, what: str, step: int) -> None:
        """Say what is not finite, at which step, and what usually helps."""
        super().__init__(
            f"the {what} is not finite at step {step}; lower learning_rate, set max_grad_norm, or look for a broken "
            "example in the batch. The last checkpoint is untouched: the same command resumes from it"
        )


class LossTerms:
    """Sums and counts of named loss terms since the last log, reduced over ranks before dividing."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one batch's terms; scalars of any float dtype."""
        for name, value in terms.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def pop(self) -> dict[str, float]:
        """Return the means over all ranks and start anew. Every rank must call it."""
        if self._count == 0:
            return {}
        names = sorted(self._sums)
        totals = torch.stack(
            [*(self._sums[name] for name in names), torch.tensor(float(self._count)).to(self._sums[names[0]])]
        )
        if dist.is_initialized():
            dist.all_reduce(totals)
        self._sums, self._count = {}, 0
        return {name: (totals[i] / totals[-1]).item() for i, name in enumerate(names)}


def require_finite(loss: Tensor, step: int) -> None:
    """Raise on all ranks if the loss of any rank is not finite.

    Raises:
        NonFiniteError: with the step and the usual remedies.
    """
    bad = (~torch.isfinite(loss.detach())).float()
    if dist.is_initialized():
        dist.all_reduce(bad, op=dist.ReduceOp.MAX)
    if bad.item() > 0:
        raise NonFiniteError("loss", step)


class ScheduleReader(CheckpointedTrainer):
    """What every trainer of the project does alike, whatever it minimises.

    It reads the positions of a `ScheduledDataset` in order, so that each global batch is exact and the same on any
    number of ranks; stops before a gradient that is not finite goes into a weight; and refuses settings of
    transformers that it would have to ignore.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_changed(vars(self.args), TrainingArguments, FIXED_IN_TRAINING)
        self._flos_per_number: int | None = None
        self._modes: list[tuple[torch.nn.Module, bool]] = []

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take transformers' step, without its walk into training mode where every module is in the mode it left."""
        if not self._modes or any(module.training != mode for module, mode in self._modes):
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            self._modes = [(module, module.training) for module in model.modules()]
            return loss
        vars(model)["train"] = lambda mode=True: model  # of this object, found before the class's
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        finally:
            del vars(model)["train"]
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return transformers' estimate, in proportion to the first batch's: it would count all weights each time."""
        name = getattr(self.model, "main_input_name", "input_ids")
        size = int(inputs[name].numel()) if name in inputs else 0
        if size == 0:
            return int(super().floating_point_ops(inputs))
        if self._flos_per_number is None:
            self._flos_per_number = int(super().floating_point_ops(inputs)) // size
        return self._flos_per_number * size

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the norm of the whole gradient, the same on every rank, after making sure that it is finite.

        transformers asks for it before each step, clipped or not. DeepSpeed has taken its step by then, but skips one
        whose gradient is not finite and says so by an infinite norm. In float16 such steps are the loss scaler's way
        of finding its scale: it skips them, and they pass.

        Raises:
            NonFiniteError: with the step and the usual remedies.
        """
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and self.accelerator.mixed_precision != "fp16" and not math.isfinite(norm):
            raise NonFiniteError("gradient", self.state.global_step)
        return norm


class ScheduledTrainer(ScheduleReader):
    """Base of the project's own training stages; subclasses implement `loss_terms`.

    The dataset is a `ScheduledDataset`, so order and randomness come from the position and mid-run resume is exact.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_trained_in_float32(self.model)
        self.model_accepts_loss_kwargs = False  # losses are means over examples: accumulation must divide
        self._terms = LossTerms()
        self._tokens_seen, self._last_log_s = 0, time.monotonic()

    def loss_terms(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch's named scalars; `loss` is the one to minimise."""
        raise NotImplementedError(f"{type(self).__name__} must say what it minimises")

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Check, count and return the loss of a batch."""
        terms = self.loss_terms(model, inputs)
        require_finite(terms["loss"], self.state.global_step)
        if model.training:
            self._terms.add({name: value for name, value in terms.items() if name != "loss"})
            self._tokens_seen += inputs["input_ids"].numel() if "input_ids" in inputs else 0
        return (terms["loss"], terms) if return_outputs else terms["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss terms and, where tokens are read, tokens a second of all ranks."""
        if "loss" in logs:
            now = time.monotonic()
            if self._tokens_seen > 0:
                rate = self._tokens_seen / (now - self._last_log_s)
                logs["tokens_per_second"] = round(rate * self.args.world_size, 1)
            self._tokens_seen, self._last_log_s = 0, now
            logs.update(self._terms.pop())
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """Evaluate the loss only: batches carry no single `labels` tensor."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

"""Emotional Preference Optimization: a thin subclass of TRL's DPOTrainer for batches with memories and clips."""

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOTrainer

from compressor.curriculum import ScheduledDataset
from compressor.precision import keep_trained_in_float32
from compressor.scheduled_trainer import ScheduleReader, require_finite
from epo.model.family import bare, family_of, require_processor
from epo.training.arguments import EpoArguments


class ReferenceDriftError(ValueError):
    """Weights outside the LoRA would train; with the adapter off they are the reference, which must not move."""


class NotEpoError(ValueError):
    """The trainer was given settings or an order of data with which it would train something else than EPO."""


class EpoTrainer(ScheduleReader, DPOTrainer):
    """Sigmoid DPO loss plus weighted NLL of the gold reply; the policy without its LoRA is the reference.

    What differs from TRL: rows are indices that the collator turns into prompts, memories and clips, so there is
    nothing to tokenise beforehand; they come in the order of a schedule, in exact global batches; the NLL is the mean
    over the tokens of the global batch, however it is spread; every prompt is read once a pair (`prompt_lengths`),
    every history and clip once for policy and reference together; there is no dropout of any kind; what is not finite
    stops all ranks; anything trainable beside the LoRA is refused.
    """

    def __init__(
        self, model: PreTrainedModel, *, args: EpoArguments, train_dataset: ScheduledDataset, **kwargs: Any
    ) -> None:
        """Make a trainer.

        Args:
            model: of any model family (`epo.model.family`), such as `EpoForConditionalGeneration`.
            args: the settings; `beta` and `alpha` are the objective's.
            train_dataset: which pair is learnt when, by its index.
            kwargs: of TRL's `DPOTrainer`: `data_collator`, `processing_class`, `peft_config`, ...

        Raises:
            NotEpoError: settings or data are of TRL's own kinds.
            FamilyError: the model is of no family, or the processor, or the collator's, of another one.
            ReferenceDriftError: weights beside the LoRA would train.
        """
        if not isinstance(args, EpoArguments):
            raise NotEpoError(
                f"args is a {type(args).__name__}, with which this would be plain DPO; want "
                "epo.training.arguments.EpoArguments, which says what EPO minimises"
            )
        if not isinstance(train_dataset, ScheduledDataset):
            raise NotEpoError(
                f"train_dataset is a {type(train_dataset).__name__}, whose last batch of a pass is a short one; want "
                "compressor.curriculum.ScheduledDataset, in which every global batch is exact"
            )
        self._family = family_of(model)
        for processor in (kwargs.get("processing_class"), getattr(kwargs.get("data_collator"), "processor", None)):
            if processor is not None:
                require_processor(self._family, processor)
        super().__init__(model, args=args, train_dataset=schedule_rows(train_dataset), **kwargs)
        for model in filter(None, (self.model, self.ref_model)):
            self._family.prepare_scoring(bare(model))
        keep_trained_in_float32(self.model)
        moving = [name for name, p in self.model.named_parameters() if p.requires_grad and ".lora_" not in name]
        if self.ref_model is None and moving:
            raise ReferenceDriftError(
                f"{len(moving)} weights beside the LoRA are trainable ({moving[0]}, ...); with the adapter off they "
                "are the reference and would move it. Train them in launch/sft.py, and only LoRA here"
            )
        self._family.freeze_for_preference(bare(self.model))
        self._settle_sharing()

    def _settle_sharing(self) -> None:
        """Read two pairs both ways, and go on with two rows a pair where that gives something else."""
        model = self._bare_model()
        batch = self._prepare_inputs(self.data_collator(self.data_collator.longest(2)))
        model.eval()
        reason = self._family.share_prompts(model, self._family.encode_once(model, batch))
        if reason is not None and self.accelerator.is_main_process:
            print(f"each prompt is read twice a pair: {reason}")

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        """Leave rows as they are: the collator reads the dialogues."""
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | None]:
        """Get the batches of a step, and count the gold tokens in them and in those of the other ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        num_tokens = torch.stack([_num_gold_tokens(batch) for batch in batches]).sum().to(device)
        return batches, self.accelerator.reduce(num_tokens, reduction="sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss after making sure that it is finite on every rank.

        TRL's NLL is the mean over the tokens of this batch. Weighted by the batch's share of all tokens of the step,
        times the number of batches that are averaged, their mean is the mean over all tokens.

        Args:
            model: policy.
            inputs: a batch of `PairCollator`.
            return_outputs: whether to return outputs too.
            num_items_in_batch: gold tokens of the whole step, None where this batch is all there is.
        """
        inputs = self._encode_context_once(inputs)
        alpha: Any = self.args.alpha
        if num_items_in_batch is not None:
            num_batches = self.current_gradient_accumulation_steps * self.args.world_size
            alpha = alpha * num_batches * _num_gold_tokens(inputs) / num_items_in_batch
        self.loss_weights = [1.0, alpha]
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        require_finite(result[0] if return_outputs else result, self.state.global_step)
        return result

    def _encode_context_once(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Encode clips and histories once for policy and reference: what is frozen gives both the same."""
        if self.ref_model is not None:
            return inputs
        with self.compute_loss_context_manager():
            return self._family.encode_once(self._bare_model(), inputs)

    def _bare_model(self) -> Any:
        return bare(self.accelerator.unwrap_model(self.model))


def schedule_rows(schedule: ScheduledDataset) -> Dataset:
    """Return a schedule as TRL wants it: one row a position."""
    return Dataset.from_dict({"index": [schedule[position]["index"] for position in range(len(schedule))]})


def _num_gold_tokens(batch: dict[str, Any]) -> Tensor:
    """Return the tokens of a batch's gold replies, int64 (); chosen rows come first."""
    count: Tensor = batch["completion_mask"].chunk(2)[0].sum()
    return count

"""Emotional Preference Optimization: a thin subclass of TRL's DPOTrainer for batches with memories and clips."""

from typing import Any

from datasets import Dataset
from trl import DPOTrainer

from compressor.precision import keep_trained_in_float32
from compressor.scheduled_trainer import require_finite
from epo.model.modeling import encode_once


class ReferenceDriftError(ValueError):
    """Weights outside the LoRA would train; with the adapter off they are the reference, which must not move."""


class EpoTrainer(DPOTrainer):
    """Sigmoid DPO loss plus weighted NLL of the gold reply; the policy without its LoRA is the reference.

    What differs from TRL: rows are indices that the collator turns into prompts, memories and clips, so there is
    nothing to tokenise beforehand; every prompt is read once a pair (`prompt_lengths`), every history and clip once
    for policy and reference together; a non-finite loss stops all ranks; anything trainable beside the LoRA is refused.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_trained_in_float32(self.model)
        moving = [name for name, p in self.model.named_parameters() if p.requires_grad and ".lora_" not in name]
        if self.ref_model is None and moving:
            raise ReferenceDriftError(
                f"{len(moving)} weights beside the LoRA are trainable ({moving[0]}, ...); with the adapter off they "
                "are the reference and would move it. Train them in launch/sft.py, and only LoRA here"
            )

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        """Leave rows as they are: the collator reads the dialogues."""
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["index"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss after making sure that it is finite on every rank."""
        inputs = self._encode_context_once(inputs)
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        require_finite(result[0] if return_outputs else result, self.state.global_step)
        return result

    def _encode_context_once(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run compressor and extractor once for policy and reference: frozen, they give both the same."""
        if self.ref_model is not None:
            return inputs
        with self.compute_loss_context_manager():
            return encode_once(self.accelerator.unwrap_model(self.model).get_base_model(), inputs)


def pair_rows(num_pairs: int) -> Dataset:
    """Return the dataset of a run over pairs: one row an index."""
    return Dataset.from_dict({"index": list(range(num_pairs))})

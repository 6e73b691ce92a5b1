"""Supervised stages: clips for the extractor, text for a language model, and the whole model on gold replies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from compressor.objectives import columns_of, labelled_span, mean_over_examples, reply_nll, token_nll
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.seams import gathered_state
from epo.data.cache import ClipCache
from epo.data.replies import Reply
from epo.model.dropout import switch_dropout_off
from epo.model.extractor import emotion_loss
from epo.model.linears import layers_around, linears_below
from epo.model.quantized import is_quantized, plain_state
from epo.model.saving import save_whole
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import (
    finish_lora,
    language_model_layers,
    lora_sizes,
    lora_variant,
    require_beside,
    transposed_layers,
)
from epo.training.lora_sum import add_in_place
from epo.training.schedule import schedule_of


class ExtractorTrainer(ScheduledTrainer):
    """Emotion recognition on labelled clips."""

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss` in nats and the batch's fused `accuracy`."""
        emotions = inputs.pop("emotions")
        output = model(**inputs)
        accuracy = (output.fused_logits.argmax(dim=-1) == emotions).float().mean()
        return {"loss": emotion_loss(output, emotions), "emotion_accuracy": accuracy}


class TextTrainer(ScheduledTrainer):
    """Language modelling of whole dialogues, the reply weighing most."""

    def layers_to_gather(self) -> list[nn.Module]:
        """Return the language model's layers."""
        return layers_around(self.model, linears_below(self.model, ""))

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, the weighted mean, and `reply_nll`, that of the reply alone, in nats a token."""
        # Right padding under a causal mask cannot reach earlier positions, so no attention mask is needed.
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        labels, weights = inputs["labels"], inputs["loss_weights"]
        nll = token_nll(logits, labels)
        reply = mean_over_examples(nll.detach(), labels, (weights == 1.0).float())
        return {"loss": mean_over_examples(nll, labels, weights), "reply_nll": reply}


class NothingToTrainError(ValueError):
    """A setting is about weights of which none trains."""


class SftTrainer(ScheduledTrainer):
    """Gold replies through memories and clips, with emotion recognition of the clip as a second loss."""

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        train_dataset: Sequence[Reply] | ScheduledDataset,
        processing_class: Any = None,
        data_collator: Any = None,
        emotion_weight: float = 0.5,
        learning_rates: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a trainer.

        Args:
            model: what trains in it is settled already, as by `epo.training.lora.prepare_for_tuning`.
            args: of transformers.
            train_dataset: the replies to learn, in an order that the seed decides; or a schedule of indices into those
                of `data_collator`.
            processing_class: the model's processor, which replies need; a schedule does not.
            data_collator: a `SftCollator`; replies bring their own.
            emotion_weight: of the second loss.
            learning_rates: by part of a parameter's name, its rate where that is not the common one.
            kwargs: of transformers' `Trainer`.

        Raises:
            NothingToTrainError: no weight that trains has one of these parts in its name.
            LoraVariantError: the model's LoRA could not become part of it in this precision.
        """
        if not isinstance(train_dataset, ScheduledDataset):
            data_collator = SftCollator(train_dataset, PromptBuilder(processing_class, ClipCache(None)))
            train_dataset = schedule_of(train_dataset, args)
        super().__init__(model, args, train_dataset=train_dataset, data_collator=data_collator, **kwargs)
        self._emotion_weight, self._learning_rates = emotion_weight, {} if learning_rates is None else learning_rates
        self._is_rounded = bool(self.args.bf16) or is_quantized(self.model)
        require_beside(lora_variant(self.model), self._is_rounded)
        add_in_place(self.model)
        language_model = self.model.language_model
        if not any(p.requires_grad for name, p in language_model.named_parameters() if ".lora_" not in name):
            switch_dropout_off(language_model, except_for="lora_")  # of what does not train itself, as in EPO
        trained = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        for part in self._learning_rates:
            if not any(part in name for name in trained):
                raise NothingToTrainError(
                    f"a learning rate is set for {part!r}, of which nothing trains; add it to trainable, or leave its "
                    "rate out"
                )

    def layers_to_gather(self) -> list[nn.Module]:
        """Return the language model's layers."""
        return language_model_layers(self.model)

    def save_tuned(self, folder: str | Path, processor: Any) -> None:
        """Write the tuned model, its LoRA part of it, and its processor, as `epo.load_model` reads them.

        Every rank must call it; the first one writes.
        """
        state = gathered_state(self)
        if not self.is_world_process_zero():
            return
        model = self.model
        rank, alpha = lora_sizes(model)
        state, model.config.low_rank = finish_lora(
            plain_state(model, state),
            rank,
            alpha,
            in_float32=not self._is_rounded,
            transposed=transposed_layers(model),
            variant=lora_variant(model),
        )
        save_whole(model.config, state, Path(folder), processor)

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, `reply_nll` in nats a token, and `emotion_loss` where the extractor trains."""
        labels, emotions = inputs.pop("labels"), inputs.pop("emotions")
        span = labelled_span(labels)
        output = model(**inputs, use_cache=False, logits_to_keep=columns_of(span, labels))
        reply = reply_nll(output.logits, labels[:, span])
        if self._emotion_weight == 0:
            return {"loss": reply, "reply_nll": reply}
        emotion = emotion_loss(output.extractor, emotions)
        return {"loss": reply + self._emotion_weight * emotion, "reply_nll": reply, "emotion_loss": emotion}

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Let transformers make the optimizer that the settings ask for, and give the parts their own rates."""
        if self.optimizer is None:
            optimizer = super().create_optimizer(model)
            of_names = self.model if model is None else model
            names = {id(parameter): name for name, parameter in of_names.named_parameters()}
            groups = [self._by_rate(group, names) for group in optimizer.param_groups]
            optimizer.param_groups[:] = [group for split in groups for group in split]
        made: torch.optim.Optimizer = self.optimizer
        return made

    def _by_rate(self, group: dict[str, Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
        """Split a group of parameters by their learning rate; all its other settings stay."""
        split: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            rates = [rate for part, rate in self._learning_rates.items() if part in names[id(parameter)]]
            split.setdefault(rates[0] if rates else group["lr"], []).append(parameter)
        return [group | {"params": parameters, "lr": rate} for rate, parameters in split.items()]

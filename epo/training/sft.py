"""Supervised stages: clips for the extractor, text for a language model, and the whole model on gold replies."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressor.objectives import columns_of, labelled_span, mean_over_examples, reply_nll, token_nll
from compressor.scheduled_trainer import ScheduledTrainer
from epo.model.extractor import emotion_loss


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

    def loss_terms(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, the weighted mean, and `reply_nll`, that of the reply alone, in nats a token."""
        # Right padding under a causal mask cannot reach earlier positions, so no attention mask is needed.
        logits = model(input_ids=inputs["input_ids"], use_cache=False).logits
        labels, weights = inputs["labels"], inputs["loss_weights"]
        nll = token_nll(logits, labels)
        reply = mean_over_examples(nll.detach(), labels, (weights == 1.0).float())
        return {"loss": mean_over_examples(nll, labels, weights), "reply_nll": reply}


class SftTrainer(ScheduledTrainer):
    """Gold replies through memories and clips, with emotion recognition of the clip as a second loss."""

    def __init__(self, *args: Any, emotion_weight: float, learning_rates: Mapping[str, float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._emotion_weight, self._learning_rates = emotion_weight, learning_rates

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
        """Build AdamW with one learning rate a part, `learning_rates` mapping a part of a name to its rate."""
        optimizer: Any = getattr(self, "optimizer", None)
        if optimizer is None:
            groups: dict[float, list[nn.Parameter]] = {}
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    rates = [rate for part, rate in self._learning_rates.items() if part in name]
                    groups.setdefault(rates[0] if rates else self.args.learning_rate, []).append(parameter)
            optimizer = torch.optim.AdamW(
                [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
                weight_decay=self.args.weight_decay,
            )
            self.optimizer = optimizer
        return optimizer

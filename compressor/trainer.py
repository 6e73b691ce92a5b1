"""Trains a MambaCompressor through a frozen language model: single turns first, then growing dialogues."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compressor.curriculum import Curriculum, RelevantTurns
from compressor.data import CompressionCollator, History
from compressor.objectives import (
    columns_of,
    distillation,
    labelled_span,
    memory_embeds,
    memory_logits,
    reply_nll,
    turn_memory,
)
from compressor.scheduled_trainer import ScheduledTrainer
from compressor.shared_beginning import WORTH, can_share, logits_beyond, num_shared
from compressor.text import CompressorDataError


class CurriculumCollator:
    """Picks the history each position is to see, then builds the batch."""

    def __init__(self, histories: Sequence[History], curriculum: Curriculum, collator: CompressionCollator) -> None:
        """Take what is learnt from.

        Raises:
            CompressorDataError: a history has no turn.
        """
        if not all(history.turns for history in histories):
            raise CompressorDataError("a history without turns cannot be compressed; leave such replies out")
        self._histories, self._curriculum, self._collator = histories, curriculum, collator
        self._relevant = RelevantTurns(turn.text for history in histories for turn in history.turns)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from the rows of a `ScheduledDataset`."""
        return self._collator([self._example(row) for row in rows])

    def _example(self, row: dict[str, Any]) -> dict[str, Any]:
        history = self._histories[row["index"]]
        texts = [turn.text for turn in history.turns]
        kept = self._relevant.pick(texts, history.reply, self._curriculum.num_turns(row["progress"]))
        history = History(tuple(history.turns[i] for i in kept), history.fixed, history.reply)
        return {"history": history, "target_turn": row["seed"] % len(history.turns)}


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the compressor's objectives, each in nats a token; a weight of 0 skips the work for it."""

    next_reply: float = 1.0
    reconstruction: float = 0.1
    distillation: float = 0.0


class CompressorTrainer(ScheduledTrainer):
    """Minimises the weighted sum of next-reply, reconstruction and distillation loss.

    The frozen language model is kept beside the trained module, not inside it: it is in no checkpoint and no
    optimizer, and gradients pass through it to the memories.
    """

    def __init__(
        self, *args: Any, llm: PreTrainedModel, memory_id: int, weights: ObjectiveWeights, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._llm = llm.requires_grad_(False).eval().to(self.args.device)
        self._memory_id, self._weights = memory_id, weights
        self._shares_beginnings: bool | None = None  # not tried yet

    def loss_terms(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, `next_reply` and, where they have a weight, `reconstruction` and `distillation`."""
        memory = model(input_ids=inputs["input_ids"])
        logits, labels = self._score(inputs, "reply", memory.vectors, memory.mask)
        terms = {"next_reply": reply_nll(logits, labels)}
        if self._weights.reconstruction > 0:
            # self.model is never wrapped; accelerate's unwrap_model looks through the installed packages at each call.
            turn = turn_memory(memory.vectors, inputs["target_turn"], self.model.config.num_memory_tokens)
            terms["reconstruction"] = reply_nll(*self._score(inputs, "turn", *turn))
        if self._weights.distillation > 0:
            span = labelled_span(inputs["text_labels"])
            columns = columns_of(span, inputs["text_ids"])
            with torch.no_grad():
                teacher = self._llm(input_ids=inputs["text_ids"], use_cache=False, logits_to_keep=columns).logits
            terms["distillation"] = distillation(logits, labels, teacher, inputs["text_labels"][:, span])
        return {"loss": sum(getattr(self._weights, name) * term for name, term in terms.items()), **terms}

    def _score(self, inputs: dict[str, Tensor], name: str, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and labels of the rows called `name`, over the columns that have labels."""
        ids, labels = inputs[f"{name}_ids"], inputs[f"{name}_labels"]
        span = labelled_span(labels)
        count = num_shared(ids, self._memory_id, span.start)
        if count < WORTH or self._shares_beginnings is False:
            return memory_logits(self._llm, ids, self._memory_id, vectors, mask, span), labels[:, span]
        embeds, columns = memory_embeds(self._llm, ids, self._memory_id, vectors, mask), columns_of(span, ids)
        if self._shares_beginnings is None:
            self._shares_beginnings = can_share(self._llm, embeds, count, columns)
            return self._score(inputs, name, vectors, mask)
        return logits_beyond(self._llm, embeds, count, columns), labels[:, span]

"""Trains a MambaCompressor through a frozen language model: single turns first, then growing dialogues."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compressor.curriculum import Curriculum, RelevantTurns
from compressor.data import CompressionCollator, History
from compressor.objectives import memory_nll, turn_memory
from compressor.scheduled_trainer import ScheduledTrainer


class CurriculumCollator:
    """Picks the history each position is to see, then builds the batch."""

    def __init__(self, histories: Sequence[History], curriculum: Curriculum, collator: CompressionCollator) -> None:
        self._histories, self._curriculum, self._collator = histories, curriculum, collator
        self._relevant = RelevantTurns(turn for history in histories for turn in history.turns)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from the rows of a `ScheduledDataset`."""
        return self._collator([self._example(row) for row in rows])

    def _example(self, row: dict[str, Any]) -> dict[str, Any]:
        history = self._histories[row["index"]]
        kept = self._relevant.pick(history.turns, history.reply, self._curriculum.num_turns(row["progress"]))
        history = History(tuple(history.turns[i] for i in kept), history.current, history.reply)
        return {"history": history, "target_turn": row["seed"] % len(history.turns)}


class CompressorTrainer(ScheduledTrainer):
    """Minimises next-reply loss plus `reconstruction_weight` times reconstruction loss.

    The frozen language model is kept beside the trained module, not inside it: it is in no checkpoint and no
    optimizer, and gradients pass through it to the memories.
    """

    def __init__(
        self, *args: Any, llm: PreTrainedModel, memory_id: int, reconstruction_weight: float, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._llm = llm.requires_grad_(False).eval().to(self.args.device)
        self._memory_id, self._reconstruction_weight = memory_id, reconstruction_weight

    def loss_terms(self, model: torch.nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `loss`, `next_reply` and, where it is trained, `reconstruction`, in nats a token."""
        memory = model(input_ids=inputs["input_ids"])
        reply = memory_nll(
            self._llm, inputs["reply_ids"], inputs["reply_labels"], self._memory_id, memory.vectors, memory.mask
        )
        if self._reconstruction_weight == 0:
            return {"loss": reply, "next_reply": reply}
        k = self.accelerator.unwrap_model(model).config.num_memory_tokens
        vectors, mask = turn_memory(memory.vectors, inputs["target_turn"], k)
        turn = memory_nll(self._llm, inputs["turn_ids"], inputs["turn_labels"], self._memory_id, vectors, mask)
        return {"loss": reply + self._reconstruction_weight * turn, "next_reply": reply, "reconstruction": turn}

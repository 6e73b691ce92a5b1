"""What a memory keeps and what it costs."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from compressor.data import CompressionCollator, History
from compressor.modeling import MambaCompressor
from compressor.objectives import memory_logits, reply_nll
from compressor.utterance import Utterance


@torch.no_grad()
def memory_report(
    compressor: MambaCompressor,
    llm: PreTrainedModel,
    histories: Sequence[History],
    collator: CompressionCollator,
    memory_id: int,
    batch_size: int = 20,
) -> dict[str, float]:
    """Measure memories on held-out histories.

    Returns:
        `reply_nll`, of the reply given its own memories, and `reply_nll_shuffled`, given another dialogue's, both
        in nats a token; what the memory tells is the gap. `history_tokens` and `memory_tokens` a dialogue: what its
        whole history adds to the prompt, as text with all that the chat template writes around it, and as memories;
        `history_reduction` is the share saved. Empty where there are no histories.
    """
    if not histories:
        return {}
    compressor.eval()
    own = _mean_nll(compressor, llm, histories, collator, memory_id, batch_size)
    others = [*histories[1:], histories[0]]
    strange = [
        History(same_length(o.turns, len(h.turns)), h.fixed, h.reply) for h, o in zip(histories, others, strict=True)
    ]
    sizes = [collator.num_history_tokens(history) for history in histories]
    tokens, memory = (sum(size) / len(histories) for size in zip(*sizes, strict=True))
    return {
        "reply_nll": own,
        "reply_nll_shuffled": _mean_nll(compressor, llm, strange, collator, memory_id, batch_size),
        "history_tokens": tokens,
        "memory_tokens": memory,
        "history_reduction": 1 - memory / tokens if tokens else 0.0,
    }


def _mean_nll(
    compressor: MambaCompressor,
    llm: PreTrainedModel,
    histories: Sequence[History],
    collator: CompressionCollator,
    memory_id: int,
    batch_size: int,
) -> float:
    total = 0.0
    for start in range(0, len(histories), batch_size):
        part = histories[start : start + batch_size]
        batch = collator([{"history": history, "target_turn": 0} for history in part])
        batch = {name: tensor.to(compressor.device) for name, tensor in batch.items()}
        memory = compressor(input_ids=batch["input_ids"])
        logits = memory_logits(llm, batch["reply_ids"], memory_id, memory.vectors, memory.mask)
        total += reply_nll(logits, batch["reply_labels"]).item() * len(part)
    return total / len(histories)


def same_length(turns: tuple[Utterance, ...], length: int) -> tuple[Utterance, ...]:
    """Repeat or cut turns to a length, so that only the content of the memory differs."""
    return tuple(turns[i % len(turns)] for i in range(length)) if turns else ()

"""What a memory keeps and what it costs."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compressor.data import CompressionCollator, History
from compressor.modeling import MambaCompressor
from compressor.objectives import mean_inside_examples, memory_logits, token_nll
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
        in nats a token; what the memory tells is the gap, whose standard error over replies is `memory_tells_error`
        (left out for a single reply). `history_tokens` and `memory_tokens` a dialogue: what its
        whole history adds to the prompt, as text with all that the chat template writes around it, and as memories;
        `history_reduction` is the share saved. Empty where there are no histories.
    """
    if not histories:
        return {}
    compressor.eval()
    own = _nll(compressor, llm, histories, collator, memory_id, batch_size)
    others = [*histories[1:], histories[0]]
    strange = [
        History(same_length(o.turns, len(h.turns)), h.fixed, h.reply) for h, o in zip(histories, others, strict=True)
    ]
    sizes = [collator.num_history_tokens(history) for history in histories]
    other = _nll(compressor, llm, strange, collator, memory_id, batch_size)
    tokens, memory = (sum(size) / len(histories) for size in zip(*sizes, strict=True))
    error = (other - own).std().item() / len(own) ** 0.5 if len(own) > 1 else None
    return {
        "reply_nll": own.mean().item(),
        "reply_nll_shuffled": other.mean().item(),
        **({} if error is None else {"memory_tells_error": error}),
        "history_tokens": tokens,
        "memory_tokens": memory,
        "history_reduction": 1 - memory / tokens if tokens else 0.0,
    }


def describe_memory(report: Mapping[str, float]) -> str:
    """Say in a line what memories tell of a dialogue, with a 95 % interval; a warning where they tell nothing.

    A reply's likelihood alone says little: memories that are the same for every dialogue raise it too, as a soft prompt
    does. What counts is how much less likely the reply becomes with another dialogue's.

    Args:
        report: what `memory_report` returned.
    """
    if not report:
        return "no validation reply has a past turn: what the memories tell is not known"
    own, other = report["reply_nll"], report["reply_nll_shuffled"]
    told, margin = other - own, 1.96 * report.get("memory_tells_error", math.inf)
    with_own = f"a held-out reply {own:.3f} nats a token with its own dialogue's memories, {other:.3f} with another's"
    if told - margin <= 0:
        return (
            f"warning: the memories are not seen to tell anything of a dialogue ({with_own}): train longer, on more "
            "dialogues, or look at more validation replies; docs/compressor.md"
        )
    return f"memories tell {told:.3f} nats a token, 95 % {told - margin:.3f} to {told + margin:.3f} ({with_own})"


def _nll(
    compressor: MambaCompressor,
    llm: PreTrainedModel,
    histories: Sequence[History],
    collator: CompressionCollator,
    memory_id: int,
    batch_size: int,
) -> Tensor:
    """Return the mean over its tokens of each reply's negative log-likelihood, float32 (N,) on the CPU."""
    found = []
    for start in range(0, len(histories), batch_size):
        part = histories[start : start + batch_size]
        batch = collator([{"history": history, "target_turn": 0} for history in part])
        batch = {name: tensor.to(compressor.device) for name, tensor in batch.items()}
        memory = compressor(input_ids=batch["input_ids"])
        logits = memory_logits(llm, batch["reply_ids"], memory_id, memory.vectors, memory.mask)
        labels = batch["reply_labels"]
        found.append(mean_inside_examples(token_nll(logits, labels), labels).cpu())
    return torch.cat(found)


def same_length(turns: tuple[Utterance, ...], length: int) -> tuple[Utterance, ...]:
    """Repeat or cut turns to a length, so that only the content of the memory differs."""
    return tuple(turns[i % len(turns)] for i in range(length)) if turns else ()

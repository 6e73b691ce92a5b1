"""Lengths: how many tokens a prompt takes, and what memory tokens save of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from epo.evaluation.suite import Answers, Column, Suite, Task, Values
from epo.ranks import gather_shares

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant


def score(task: Task, answers: Answers) -> Values:
    """Return the mean length of the prompts that were answered, and of the history in them."""
    if answers.contestant is None:
        return {}
    return {
        "prompt_tokens": _mean(gather_shares([len(prompt.input_ids) for prompt in answers.prompts])),
        "history_tokens": _mean(gather_shares([prompt.num_history_tokens for prompt in answers.prompts])),
    }


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return how long prompts are with the history as text, and what memory tokens save."""
    if contestant is None:
        return {}
    processor = contestant.build.processor
    prompts = [contestant.build(reply) for reply in task.gold]
    hear = contestant.build.hear
    as_text = [
        processor.encode_prompt(
            reply.history if hear is None else hear(reply.history), reply.current, prompt.clip, use_memory=False
        )
        for reply, prompt in zip(task.gold, prompts, strict=True)
    ]
    return {
        "history_tokens_as_text": _mean([prompt.num_history_tokens for prompt in as_text]),
        "prompt_tokens_as_text": _mean([len(prompt.input_ids) for prompt in as_text]),
        "history_reduction": _reduction(prompts, as_text, lambda prompt: prompt.num_history_tokens),
        "prompt_reduction": _reduction(prompts, as_text, lambda prompt: len(prompt.input_ids)),
    }


def _reduction(short: Sequence[Any], long: Sequence[Any], size: Callable[[Any], int]) -> float | None:
    total = sum(size(prompt) for prompt in long)
    return None if total == 0 else 1 - sum(size(prompt) for prompt in short) / total


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


SUITE = Suite(
    place=70,
    needs=("model",),
    columns=(
        Column(
            "prompt_tokens",
            "Prompt tokens",
            "Mean length of the whole prompt: system, memory, clip, transcript.",
            better="lower",
            digits=1,
            in_console=False,
        ),
        Column(
            "history_tokens",
            "History tokens",
            "Mean tokens that stand for the history: memory tokens or its text.",
            better="lower",
            digits=1,
        ),
    ),
    score=score,
    summarise=summarise,
)

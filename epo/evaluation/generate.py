"""Replies: greedy or sampled, in batches, for prompts with memories and clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from compressor.decoding import plain_decoding
from compressor.progress import Progress
from compressor.text import PAD, pad_left
from epo.data.cache import ClipCache
from epo.data.replies import Reply
from epo.evaluation.thinking import think_first
from epo.model.family import DialogueProcessor, FamilyPrompt
from epo.model.heard_emotions import heard_emotions_of
from epo.prompts.thought import split_thought
from epo.training.collate import PromptBuilder


@dataclass(frozen=True)
class Written:
    """What a model wrote to one prompt.

    Attributes:
        reply: label and words.
        thought: what it wrote before, without its brackets; None where it wrote none.
    """

    reply: str
    thought: str | None = None


def generate_replies(
    model: Any, processor: DialogueProcessor, prompts: Sequence[FamilyPrompt], *args: Any, **settings: Any
) -> list[str]:
    """Generate one reply a prompt, without the thoughts of a model that thinks.

    Args:
        model: of any model family, or a PEFT model around one.
        processor: the model's.
        prompts: from its `encode_prompt`.
        args: as `settings`, by position.
        settings: of `generate_written`.

    Returns:
        Decoded replies, label and words, in the order of the prompts, up to the end of the assistant's turn.
    """
    return [written.reply for written in generate_written(model, processor, prompts, *args, **settings)]


@torch.no_grad()
def generate_written(
    model: Any,
    processor: DialogueProcessor,
    prompts: Sequence[FamilyPrompt],
    batch_size: int = 50,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    prefix: Sequence[str] | None = None,
    label: str | None = None,
    streamer: Any = None,
) -> list[Written]:
    """Generate one reply a prompt, and before it the thought of a model that thinks.

    Greedy, or drawn from the model's distribution, whatever the checkpoint would have.

    Args:
        model: of any model family, or a PEFT model around one.
        processor: the model's.
        prompts: from its `encode_prompt`.
        batch_size: prompts at a time.
        max_new_tokens: longest reply; a thought has its own limit (`epo.prompts.thought`).
        temperature: 0 picks the most likely token; above it any token may be drawn, by torch's global generator.
        prefix: words each reply must begin with, such as "(sad)".
        label: under which name progress is shown; none shows none.
        streamer: takes the ids of a single prompt's reply as they are written, as transformers' `generate` does; not
            those of its thought.

    Returns:
        Decoded, in the order of the prompts, up to the end of the assistant's turn.
    """
    model.eval()
    chat = processor.chat
    replies: list[Written] = []
    progress = Progress(label or "", len(prompts), "replies", is_shown=label is not None)
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        context = {name: tensor.to(model.device) for name, tensor in processor.batch_context(part).items()}
        write = _Pen(model, context, temperature)
        thoughts, rows = think_first(processor, [prompt.input_ids for prompt in part], write)
        starts = ["" for _ in part] if prefix is None else list(prefix[start : start + batch_size])
        rows = [row + chat.encode_start(words) for row, words in zip(rows, starts, strict=True)]
        texts = [chat.decode(row) for row in write(rows, max_new_tokens, chat.stop_ids, streamer)]
        replies += [_written(*found) for found in zip(thoughts, starts, texts, strict=True)]
        progress.advance(len(part))
    progress.close()
    return replies


@dataclass(frozen=True)
class _Pen:
    """Continues rows of prompts that have one context, `CONTEXT_KEYS`."""

    model: Any
    context: dict[str, Any]
    temperature: float

    def __call__(
        self, rows: list[list[int]], longest: int, stop_ids: Sequence[int], streamer: Any = None
    ) -> list[list[int]]:
        """Return the new ids of each row, up to a token to stop at, padded to the longest."""
        batch = {name: tensor.to(self.model.device) for name, tensor in pad_left(rows).items()}
        with plain_decoding(self.model, self.temperature) as sampling:
            ids = self.model.generate(
                **batch,
                **self.context,
                **sampling,
                **({} if streamer is None else {"streamer": streamer}),
                max_new_tokens=longest,
                use_cache=True,  # the Trainer switches it off in the config of what it trained
                eos_token_id=list(stop_ids),
                pad_token_id=PAD,
            )
        new: list[list[int]] = ids[:, batch["input_ids"].size(1) :].tolist()
        return new


def _written(thought: str | None, start: str, text: str) -> Written:
    return Written(start + text if thought is None else split_thought(start + text)[1], thought)


def answer(
    model: Any, processor: DialogueProcessor, replies: Sequence[Reply], cache: ClipCache | None = None, **settings: Any
) -> list[str]:
    """Let a model give replies in place of those that dialogues have: it reads what leads to each, and no more.

    Args:
        model: of any model family, or a PEFT model around one.
        processor: the model's.
        replies: say by `history` and `current` what is answered. Where the model's memories carry emotions, those of
            past user turns are what its extractor reads in their clips (`epo.model.heard_emotions`).
        cache: of decoded clips; None decodes anew.
        settings: of `generate_replies`: `max_new_tokens`, `temperature`, `batch_size`, ...

    Returns:
        The words of each reply after the emotion label that it begins with; `epo.prompts.emotion_label.split_reply`
        parts them.

    Raises:
        DataError: a prompt is too long, or a clip cannot be read; names the dialogue.
    """
    cache = ClipCache(None) if cache is None else cache
    build = PromptBuilder(processor, cache, heard_emotions_of(model, processor, cache))
    return generate_replies(model, processor, [build(reply) for reply in replies], **settings)

"""Replies: greedy or sampled, in batches, for prompts with memories and clips."""

from collections.abc import Sequence
from typing import Any

import torch

from compressor.decoding import plain_decoding
from compressor.progress import Progress
from compressor.text import PAD, pad_left
from epo.data.cache import ClipCache
from epo.data.replies import Reply
from epo.model.family import DialogueProcessor, FamilyPrompt
from epo.model.heard_emotions import heard_emotions_of
from epo.training.collate import PromptBuilder


@torch.no_grad()
def generate_replies(
    model: Any,
    processor: DialogueProcessor,
    prompts: Sequence[FamilyPrompt],
    batch_size: int = 50,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    prefix: Sequence[str] | None = None,
    label: str | None = None,
    streamer: Any = None,
) -> list[str]:
    """Generate one reply a prompt: greedy, or drawn from the model's distribution, whatever the checkpoint would have.

    Args:
        model: of any model family, or a PEFT model around one.
        processor: the model's.
        prompts: from its `encode_prompt`.
        batch_size: prompts at a time.
        max_new_tokens: longest reply.
        temperature: 0 picks the most likely token; above it any token may be drawn, by torch's global generator.
        prefix: words each reply must begin with, such as "(sad)".
        label: under which name progress is shown; none shows none.
        streamer: takes the ids of a single prompt's reply as they are written, as transformers' `generate` does.

    Returns:
        Decoded replies, label and words, in the order of the prompts, up to the end of the assistant's turn.
    """
    model.eval()
    chat = processor.chat
    replies: list[str] = []
    progress = Progress(label or "", len(prompts), "replies", is_shown=label is not None)
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        starts = ["" for _ in part] if prefix is None else list(prefix[start : start + batch_size])
        rows = [prompt.input_ids + chat.encode_start(words) for prompt, words in zip(part, starts, strict=True)]
        batch = pad_left(rows) | processor.batch_context(part)
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with plain_decoding(model, temperature) as sampling:
            ids = model.generate(
                **batch,
                **sampling,
                **({} if streamer is None else {"streamer": streamer}),
                max_new_tokens=max_new_tokens,
                use_cache=True,  # the Trainer switches it off in the config of what it trained
                eos_token_id=chat.stop_ids,
                pad_token_id=PAD,
            )
        written = [chat.decode(row) for row in ids[:, batch["input_ids"].size(1) :].tolist()]
        replies += [words + text for words, text in zip(starts, written, strict=True)]
        progress.advance(len(part))
    progress.close()
    return replies


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

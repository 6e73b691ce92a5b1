"""The gate of the language-model warm-up: how many facts a model repeats when it reads the whole history as text."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compressor.chat import chat_format
from compressor.decoding import plain_decoding
from compressor.text import PAD, pad_left
from epo.data.replies import Reply
from epo.evaluation.metrics import fact_recall
from epo.model.generation import generate
from epo.training.collate import text_prompt


@torch.no_grad()
def text_recall(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Reply],
    facts: Sequence[Sequence[str]],
    batch_size: int = 50,
    max_new_tokens: int = 48,
    system_prompt: str = "",
    max_prompt_tokens: int = 4096,
) -> float:
    """Return the share of facts in greedy replies given as much of the text history as `max_prompt_tokens` holds."""
    llm.eval()
    chat = chat_format(tokenizer)
    replies: list[str] = []
    for start in range(0, len(examples), batch_size):
        prompts = [
            text_prompt(e, range(len(e.history)), tokenizer, True, system_prompt, max_prompt_tokens)[0]
            for e in examples[start : start + batch_size]
        ]
        batch = {name: tensor.to(llm.device) for name, tensor in pad_left(prompts).items()}
        with plain_decoding(llm, temperature=0) as greedy:
            ids = generate(
                llm,
                **batch,
                embeds=llm.get_input_embeddings()(batch["input_ids"]),
                **greedy,
                max_new_tokens=max_new_tokens,
                use_cache=True,  # the Trainer switches it off in the config of what it trained
                eos_token_id=chat.stop_ids,
                pad_token_id=PAD,
            )
        replies += [chat.decode(row) for row in ids[:, batch["input_ids"].size(1) :].tolist()]
    return fact_recall(replies, facts)

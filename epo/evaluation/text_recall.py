"""The gate of the language-model warm-up: how many facts a model repeats when it reads the whole history as text."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from compressor.decoding import plain_decoding
from compressor.text import PAD, pad_left
from epo.data.replies import Reply
from epo.evaluation.metrics import fact_recall
from epo.model.generation import generate
from epo.prompts.text_prompts import TextPrompts


@torch.no_grad()
def text_recall(
    llm: PreTrainedModel,
    prompts: TextPrompts,
    examples: Sequence[Reply],
    facts: Sequence[Sequence[str]],
    batch_size: int = 50,
    max_new_tokens: int = 48,
) -> float:
    """Return the share of facts in greedy replies given as much of the text history as `prompts` hold."""
    llm.eval()
    chat = prompts.chat
    replies: list[str] = []
    for start in range(0, len(examples), batch_size):
        asked = [prompts.encode_prompt(reply, names_emotion=True) for reply in examples[start : start + batch_size]]
        batch = {name: tensor.to(llm.device) for name, tensor in pad_left(asked).items()}
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

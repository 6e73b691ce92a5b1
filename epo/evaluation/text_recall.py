"""The gate of the language-model warm-up: how many facts a model repeats when it reads the whole history as text."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compressor.decoding import plain_decoding
from epo.evaluation.metrics import fact_recall
from epo.training.collate import text_prompt
from epo.training.examples import Example


@torch.no_grad()
def text_recall(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    facts: Sequence[Sequence[str]],
    batch_size: int = 50,
    max_new_tokens: int = 48,
) -> float:
    """Return the share of facts in greedy replies given the full text history."""
    llm.eval()
    replies: list[str] = []
    for start in range(0, len(examples), batch_size):
        prompts = [
            text_prompt(e, range(len(e.history)), tokenizer, named_emotion=True)[0]
            for e in examples[start : start + batch_size]
        ]
        batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(llm.device)
        with plain_decoding(llm, temperature=0) as greedy:
            ids = llm.generate(
                **batch,
                **greedy,
                max_new_tokens=max_new_tokens,
                use_cache=True,  # the Trainer switches it off in the config of what it trained
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        replies += tokenizer.batch_decode(ids[:, batch["input_ids"].size(1) :], skip_special_tokens=True)
    return fact_recall(replies, facts)

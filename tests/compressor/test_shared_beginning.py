"""Shared beginnings: read once, the losses and gradients of training stay what they were."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from compressor.objectives import columns_of, labelled_span, memory_embeds, memory_logits, reply_nll
from compressor.shared_beginning import can_share, logits_beyond, num_shared
from compressor.text import IGNORE

MEMORY = 319
SMALL = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": False,
}  # fmt: skip


def test_the_beginning_ends_at_a_memory_at_a_difference_and_at_what_is_scored():
    ids = torch.tensor([[5, 6, 7, MEMORY, 8, 9], [5, 6, 7, MEMORY, 4, 9]])
    assert num_shared(ids, MEMORY, 6) == 3 and num_shared(ids, MEMORY, 2) == 2
    assert num_shared(ids, 1, 6) == 4 and num_shared(ids.flip(1), 1, 6) == 1
    assert num_shared(ids[:1], MEMORY, 5) == 3


def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 300, (3, 24), generator=generator)
    ids[:, :10], ids[:, 10:12] = ids[0, :10], MEMORY
    labels = ids.clone()
    labels[:, :17], labels[1, 20:] = IGNORE, IGNORE
    vectors = torch.randn(3, 2, 32, generator=generator).requires_grad_()
    return ids, labels, vectors, torch.ones(3, 2, dtype=torch.bool)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "opt"])
def test_losses_and_gradients_are_those_of_whole_rows(family):
    torch.manual_seed(0)
    sizes = SMALL if family not in ("gpt2", "opt") else {"vocab_size": 320}
    sizes |= {"gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2}}.get(family, {})
    sizes |= {"opt": {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2,
                      "num_attention_heads": 2}}.get(family, {})  # fmt: skip
    llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).eval().requires_grad_(False)
    ids, labels, vectors, mask = batch()
    span = labelled_span(labels)
    count = num_shared(ids, MEMORY, span.start)
    assert count == 10
    whole = reply_nll(memory_logits(llm, ids, MEMORY, vectors, mask, span), labels[:, span])
    (wanted,) = torch.autograd.grad(whole, vectors)
    embeds, columns = memory_embeds(llm, ids, MEMORY, vectors, mask), columns_of(span, ids)
    assert can_share(llm, embeds, count, columns)
    apart = reply_nll(logits_beyond(llm, embeds, count, columns), labels[:, span])
    (found,) = torch.autograd.grad(apart, vectors)
    torch.testing.assert_close(apart, whole, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


def test_what_keeps_a_state_or_a_window_reads_whole_rows():
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4,
             "head_dim": 16, "n_groups": 1, "chunk_size": 8}  # fmt: skip
    embeds, columns = torch.randn(2, 12, 32), torch.tensor([10, 11])
    for family, changes in (("mamba2", sizes), ("mistral", SMALL | {"sliding_window": 6})):
        llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **changes)).eval().requires_grad_(False)
        assert not can_share(llm, embeds, 8, columns)

"""Shared prompt: one reading of each prompt gives what two would have given, in states and in gradients."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from epo.model.attention_masks import block_mask, prove_flex
from epo.model.shared_prompt import pack_pairs
from epo.training.collate import PairCollator, PromptBuilder

# Two pairs: prompts of 2 and 1 tokens; replies of 2 and 1, and of 1 and 2.
IDS = torch.tensor([[11, 12, 21, 22], [13, 23, 0, 0], [11, 12, 31, 0], [13, 33, 34, 0]])
MASK = (IDS > 0).long()
PROMPTS = torch.tensor([2, 1])


def test_rows_hold_prompt_chosen_rejected():
    packed = pack_pairs(IDS, MASK, PROMPTS, pad_id=9)
    assert packed.input_ids.tolist() == [[11, 12, 21, 22, 31], [13, 23, 33, 34, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 2, 0]]


def test_the_rejected_reply_sees_the_prompt_and_itself():
    mask = pack_pairs(IDS, MASK, PROMPTS, pad_id=9).attention_mask.int()
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0].tolist() == [
        [1, 0, 0, 0, 0],  # prompt
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],  # chosen
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # rejected
    ]
    assert mask[1, 0].tolist() == [
        [1, 0, 0, 0, 0],  # prompt
        [1, 1, 0, 0, 0],  # chosen
        [1, 0, 1, 0, 0],  # rejected
        [1, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],  # padding: sees itself, or the softmax would be NaN
    ]


def test_states_go_back_to_the_rows_they_belong_to():
    packed = pack_pairs(IDS, MASK, PROMPTS, pad_id=9)
    states = packed.input_ids.repeat(2, 1).gather(1, packed.source)
    assert states[MASK.bool()].tolist() == IDS[MASK.bool()].tolist()


def scores_and_gradients(model, batch, shares):
    """The replies' scores, and every gradient of the mean square of their log-probabilities."""
    batch = dict(batch)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    model.zero_grad()
    model.shares_prompts = shares
    scores = model(**batch, labels=labels, fused_lm_head=True)
    scores.log_probs[labels[:, 1:] != -100].square().mean().backward()
    return scores, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sharing_changes_neither_states_nor_gradients(model_and_processor, pairs, clip_cache, attention):
    """Pairs with unequal prompts and replies, with and without clips."""
    model, processor = model_and_processor
    model.language_model.set_attn_implementation(attention)
    build, rows = PromptBuilder(processor, clip_cache), [{"index": i} for i in range(6)]
    batch = PairCollator(pairs, build)(rows)
    assert len(set(batch["prompt_lengths"].tolist())) > 1
    shared, shared_grads = scores_and_gradients(model, batch, shares=True)
    plain, plain_grads = scores_and_gradients(model, batch, shares=False)
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(shared[name], plain[name], atol=2e-4, rtol=1e-4)
    assert shared.is_top1.equal(plain.is_top1)
    assert shared_grads.keys() == plain_grads.keys()
    for name, gradient in plain_grads.items():
        assert torch.allclose(shared_grads[name], gradient, atol=1e-4, rtol=1e-3), name
    assert plain_grads["compressor.memory_head.weight"].abs().max() > 1e-4
    assert plain_grads["clip_head.weight"].abs().max() > 1e-4


def test_blocks_are_those_in_which_something_is_seen():
    """Three blocks of 128: causal, and the third, the rejected reply, does not see the second, the chosen one."""
    ids = torch.ones(2, 256, dtype=torch.long)
    packed = pack_pairs(ids, ids, torch.tensor([128]), pad_id=0)
    mask = block_mask(packed.sees, packed.last)
    assert mask.to_dense()[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["full", "sliding", "mixed"])
@pytest.mark.parametrize("tokens_per_row", [None, 300])
def test_flex_attention_scores_as_sdpa_does(make_model, pairs, clip_cache, family, tokens_per_row):
    """Windows of five positions; forward alone, because PyTorch has no backward pass of it on CPUs (tests/gpu)."""
    torch.compiler.reset()  # on CPUs it does not compile for lengths of every size, as it would after another test's
    kinds = {"full": ["full"] * 2, "sliding": ["sliding"] * 2, "mixed": ["sliding", "full"]}[family]
    sizes = {
        "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "layer_types": [f"{k}_attention" for k in kinds],
        "use_sliding_window": family != "full", "sliding_window": None if family == "full" else 5,
    }  # fmt: skip
    torch.manual_seed(0)
    model, processor = make_model(AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **sizes)))
    model.eval()
    batch = PairCollator(pairs, PromptBuilder(processor, clip_cache))([{"index": i} for i in range(6)])
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {key: value for key, value in batch.items() if key != "completion_mask"}
    model.shares_prompts, model.tokens_per_row = True, tokens_per_row
    with torch.no_grad():
        plain = model(**inputs, labels=labels, fused_lm_head=True)
        assert prove_flex(model, model.language_model, batch) is None
        assert model.language_model.config._attn_implementation == "flex_attention"
        blocks = model(**inputs, labels=labels, fused_lm_head=True)
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(blocks[name], plain[name], atol=2e-4, rtol=1e-4)


def test_flex_attention_that_fails_is_left_out(model_and_processor, pairs, clip_cache, monkeypatch):
    model, processor = model_and_processor
    batch = PairCollator(pairs, PromptBuilder(processor, clip_cache))([{"index": 0}])
    model.eval().shares_prompts = True

    def no_compiler(*_, **__):
        raise RuntimeError("no compiler\nwas found")

    monkeypatch.setattr("epo.model.shared_prompt.block_mask", no_compiler)
    said = prove_flex(model, model.language_model, batch)
    assert said == "FlexAttention fails (no compiler was found)"
    assert model.language_model.config._attn_implementation == "sdpa"


def test_sharing_saves_the_prompt(pairs, model_and_processor, clip_cache):
    batch = PairCollator(pairs, PromptBuilder(model_and_processor[1], clip_cache))([{"index": 0}])
    packed = pack_pairs(batch["input_ids"], batch["attention_mask"], batch["prompt_lengths"], pad_id=0)
    assert packed.input_ids.numel() == batch["attention_mask"].sum() - batch["prompt_lengths"].sum()

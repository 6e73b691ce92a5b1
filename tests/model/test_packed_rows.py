"""Several pairs in a row: each reads itself alone, so scores and gradients are those of a row each."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from epo.model.packed_rows import balanced_rows, place_pairs
from epo.model.shared_prompt import pack_pairs, pack_replies, prove_packing, prove_sharing
from epo.training.collate import PairCollator, PromptBuilder

# Two pairs: prompts of 2 and 1 tokens; replies of 2 and 1, and of 1 and 2.
IDS = torch.tensor([[11, 12, 21, 22], [13, 23, 0, 0], [11, 12, 31, 0], [13, 33, 34, 0]])
MASK = (IDS > 0).long()
PROMPTS = torch.tensor([2, 1])
SIZES = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": 1,
    "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "mistral": SIZES | {"sliding_window": 12},  # every layer looks back that far
    "gemma2": SIZES | {"sliding_window": 12, "query_pre_attn_scalar": 16},  # every other one
    "gpt2": {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512, "bos_token_id": None,
             "eos_token_id": 1},  # positions are learnt
    "lfm2": SIZES | {"layer_types": ["conv", "full_attention"]},
}  # fmt: skip


def make_llm_of(family):
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **FAMILIES[family]))
    for parameter in llm.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)
    return llm.eval()


def placed(lengths, tokens_per_row):
    return place_pairs(torch.tensor(lengths), max(lengths), tokens_per_row)


def test_pairs_are_dealt_out_longest_first_into_the_least_rectangle():
    """24 tokens in rows of 14 at most: two rows 7 + 3 + 2 and 7 + 5 are 2 x 12, no pad; in rows of 10 at most three
    rows 7, 7 + 2, 5 + 3 are 3 x 9 = 27, four rows 7, 7, 5, 3 + 2 are 28 and five 35."""
    lengths = [3, 7, 5, 2, 7]
    assert balanced_rows(lengths, limit=14) == [[1, 2], [4, 0, 3]]
    assert balanced_rows(lengths, limit=10) == [[1, 3], [4], [2, 0]]
    assert balanced_rows([2, 2, 2, 2, 2], limit=4) == [[0], [1], [2], [3], [4]]  # three rows of 4 would be 12
    place = placed(lengths, 10)
    assert place.row.tolist() == [2, 0, 2, 0, 1] and place.offset.tolist() == [5, 0, 0, 7, 0]
    assert place.is_real.sum(dim=1).tolist() == [9, 7, 8]
    assert place.taken[0].tolist() == [*range(7, 14), 21, 22]  # of a table with 7 columns


@pytest.mark.parametrize("tokens_per_row", [1, 3, 5, 9, 11, 100])
def test_every_token_has_a_place_of_its_own_and_none_is_cut(tokens_per_row):
    """Also single tokens, and a pair of nine that is longer than most of these rows."""
    lengths = [1, 9, 2, 1, 4, 4]
    place = placed(lengths, tokens_per_row)
    wanted = [pair * 9 + step for pair, length in enumerate(lengths) for step in range(length)]
    assert sorted(place.taken[place.is_real].tolist()) == wanted
    assert place.is_real.size(1) <= max(tokens_per_row, 9)
    assert len(place.row.unique()) == len(place.is_real) < 6
    assert place.is_real.numel() < 6 * 9


def test_a_row_holds_pairs_that_each_see_themselves():
    packed = pack_pairs(IDS, MASK, PROMPTS, pad_id=9, tokens_per_row=10)
    assert packed.laid(packed.input_ids).tolist() == [[11, 12, 21, 22, 31, 13, 23, 33, 34]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1, 1, 2]]
    alone = pack_pairs(IDS, MASK, PROMPTS, pad_id=9).attention_mask[:, 0]
    wanted = torch.block_diag(alone[0].int(), alone[1, :4, :4].int())
    assert packed.attention_mask[0, 0].int().equal(wanted)


def test_rows_of_one_pair_each_where_no_two_have_room():
    """A budget of one token: rows are as long as the longest pair, and the padding sees itself."""
    packed = pack_pairs(IDS, MASK, PROMPTS, pad_id=9, tokens_per_row=1)
    alone = pack_pairs(IDS, MASK, PROMPTS, pad_id=9)
    assert packed.position_ids.equal(alone.position_ids)
    real = MASK.bool()
    assert packed.row[real].equal(alone.row[real]) and packed.source[real].equal(alone.source[real])
    assert packed.attention_mask[:, 0, :4, :4].equal(alone.attention_mask[:, 0, :4, :4])
    assert packed.attention_mask.diagonal(dim1=2, dim2=3).all()


@pytest.mark.parametrize("tokens_per_row", [6, 10])
def test_states_go_back_to_the_rows_they_belong_to(tokens_per_row):
    packed = pack_pairs(IDS, MASK, PROMPTS, pad_id=9, tokens_per_row=tokens_per_row)
    assert packed.laid(packed.input_ids)[packed.row, packed.source][MASK.bool()].tolist() == IDS[MASK.bool()].tolist()
    single = pack_replies(IDS, MASK, tokens_per_row)
    assert single.laid(single.input_ids)[single.row, single.source][MASK.bool()].tolist() == IDS[MASK.bool()].tolist()
    assert single.position_ids[single.row, single.source][MASK.bool()].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 1, 2]


def batch_of(pairs, processor, clip_cache, count=8):
    """Pairs of unequal length; among them one without video, one without audio and one without a clip."""
    return PairCollator(pairs, PromptBuilder(processor, clip_cache))([{"index": i} for i in range(count)])


def scores_and_gradients(model, batch, tokens_per_row):
    """The replies' scores, and every gradient of the mean square of their log-probabilities."""
    batch = dict(batch)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    model.zero_grad()
    model.shares_prompts, model.tokens_per_row = True, tokens_per_row
    scores = model(**batch, labels=labels, fused_lm_head=True)
    scores.log_probs[labels[:, 1:] != -100].square().mean().backward()
    return scores, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def watch_rows(model):
    """Keep the shapes that the language model reads."""
    shapes = []

    def keep(module, args, kwargs):
        shapes.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    model.language_model.register_forward_pre_hook(keep, with_kwargs=True)
    return shapes


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packing_changes_neither_scores_nor_gradients(model_and_processor, pairs, clip_cache, attention):
    model, processor = model_and_processor
    model.language_model.set_attn_implementation(attention)
    batch, shapes = batch_of(pairs, processor, clip_cache), watch_rows(model)
    packed, packed_grads = scores_and_gradients(model, batch, 300)
    plain, plain_grads = scores_and_gradients(model, batch, None)
    (few, long), (many, short) = shapes
    assert few < many == 8 and short < long <= 300
    assert few * long < many * short
    for name in ("log_probs", "entropy", "mean_logits"):
        torch.testing.assert_close(packed[name], plain[name], atol=2e-4, rtol=1e-4)
    assert packed.is_top1.equal(plain.is_top1)
    assert packed_grads.keys() == plain_grads.keys()
    for name, gradient in plain_grads.items():
        assert torch.allclose(packed_grads[name], gradient, atol=1e-4, rtol=1e-3), name
    assert plain_grads["compressor.memory_head.weight"].abs().max() > 1e-4
    assert plain_grads["clip_head.weight"].abs().max() > 1e-4


def test_no_pair_reaches_another(model_and_processor, pairs, clip_cache):
    """Other replies of one pair move its own log-probabilities and, all pairs in one row, those of no other one."""
    model, processor = model_and_processor
    batch = batch_of(pairs, processor, clip_cache, count=5)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    model.shares_prompts, model.tokens_per_row = True, 10_000
    shapes = watch_rows(model)

    @torch.no_grad()
    def score(ids):
        return model(**batch | {"input_ids": ids}, labels=labels, fused_lm_head=True).log_probs

    before = score(batch["input_ids"])
    for pair in range(5):
        ids = batch["input_ids"].clone()
        for row in (pair, pair + 5):
            ids[row] = torch.where(labels[row] != -100, ids[row] // 2, ids[row])
        moved = (score(ids) - before).abs().amax(dim=1) > 1e-6
        assert moved.nonzero().flatten().tolist() == [pair, pair + 5]
    assert {rows for rows, _ in shapes} == {1}


@pytest.mark.parametrize("family", FAMILIES)
def test_packing_is_proven_for_each_model(make_model, pairs, clip_cache, family):
    """Windows look back inside a pair; a layer that carries a state keeps two rows a pair, and scores stay."""
    model, processor = make_model(make_llm_of(family))
    batch = batch_of(pairs, processor, clip_cache, count=6)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {key: value for key, value in batch.items() if key != "completion_mask"}
    with torch.no_grad():
        model.shares_prompts = False
        apart = model(**inputs, labels=labels, fused_lm_head=True).log_probs
        reason = prove_sharing(model, batch)
        if family == "lfm2":
            assert "layers of kind conv" in reason and model.tokens_per_row is None
        else:
            assert reason is None and prove_packing(model, batch, 400) is None and model.tokens_per_row == 400
        shapes = watch_rows(model)
        packed = model(**inputs, labels=labels, fused_lm_head=True).log_probs
    assert shapes[0][0] == 12 if family == "lfm2" else shapes[0][0] < 6
    torch.testing.assert_close(packed, apart, atol=5e-4, rtol=1e-4)


def test_a_leak_between_pairs_is_found_out(model_and_processor, pairs, clip_cache, monkeypatch):
    """Rows whose pairs see those before them, and rows whose positions go on."""
    from epo.model import shared_prompt

    model, processor = model_and_processor
    batch = batch_of(pairs, processor, clip_cache, count=2)
    assert prove_sharing(model, batch) is None
    with monkeypatch.context() as broken:
        broken.setattr(shared_prompt.PackedPairs, "sees", lambda self, row, query, key, window=None: key <= query)
        assert prove_packing(model, batch, 400).startswith("log-probabilities differ by")
        assert model.tokens_per_row is None
    assert prove_packing(model, batch, 400) is None and model.tokens_per_row == 400

"""The compressor: memories sit where the slots are, whoever else is in the batch and however the text arrives."""

import pytest
import torch
from transformers import AutoModel

from compressor.data import encode_turn
from compressor.modeling import MambaCompressor
from compressor.placeholders import PlaceholderError, embed_tokens, fill_placeholders
from compressor.text import pad_right

SLOTS = [320, 321]  # the vocabulary has 320 ids
TURNS = ([5, 6, 7, *SLOTS], [8, 9, *SLOTS], [10, 11, 12, 13, *SLOTS])


@pytest.fixture
def compressor(make_compressor):
    return make_compressor()


def compress(compressor, *rows):
    with torch.no_grad():
        return compressor(input_ids=pad_right(rows, 0))


def test_a_turn_gives_k_memories_in_the_width_of_the_language_model(compressor):
    memory = compress(compressor, [token for turn in TURNS for token in turn])
    assert memory.vectors.shape == (1, 6, 32)
    assert memory.mask.tolist() == [[True] * 6]


def test_memories_are_the_projected_states_at_the_slots(compressor):
    ids = torch.tensor([[*TURNS[0], *TURNS[1]]])
    with torch.no_grad():
        hidden = compressor.backbone(inputs_embeds=compressor.embed(ids), use_cache=False).last_hidden_state
        expected = compressor.project(hidden[0, [3, 4, 7, 8]])
    torch.testing.assert_close(compress(compressor, ids[0].tolist()).vectors[0], expected)


def test_neighbours_and_padding_change_nothing(compressor):
    """Each dialogue's memories are the same alone as beside a longer one: nothing leaks, padding is not read."""
    short, long = [*TURNS[1]], [*TURNS[0], *TURNS[2], *TURNS[1]]
    both = compress(compressor, short, long)
    assert both.mask.tolist() == [[True, True, False, False, False, False], [True] * 6]
    torch.testing.assert_close(both.vectors[0, :2], compress(compressor, short).vectors[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both.vectors[1], compress(compressor, long).vectors[0], atol=1e-5, rtol=1e-5)
    padded = compress(compressor, [*short, *[0] * 20])
    torch.testing.assert_close(padded.vectors, both.vectors[:1, :2], atol=1e-5, rtol=1e-5)


def test_memory_depends_on_earlier_turns_only(compressor):
    whole = compress(compressor, [*TURNS[0], *TURNS[1]]).vectors[0]
    changed_later = compress(compressor, [*TURNS[0], *TURNS[2]]).vectors[0]
    changed_before = compress(compressor, [*TURNS[2], *TURNS[1]]).vectors[0]
    torch.testing.assert_close(whole[:2], changed_later[:2], atol=1e-5, rtol=1e-5)
    assert (whole[2:] - changed_before[2:]).abs().max() > 1e-3


def test_no_history_at_all_is_finite_masked_and_in_the_graph(compressor):
    memory = compressor(input_ids=torch.zeros(2, 1, dtype=torch.long))
    assert not memory.mask.any() and torch.isfinite(memory.vectors).all()
    memory.vectors.sum().backward()
    assert compressor.memory_head.weight.grad is not None


def test_fresh_memories_have_the_scale_asked_for(make_compressor):
    compressor = make_compressor(output_std=0.05)
    vectors = compress(compressor, *(list(range(5 + i, 40 + i)) + SLOTS for i in range(20))).vectors
    assert vectors.std().item() == pytest.approx(0.05, rel=0.2)


def test_number_of_memory_tokens_is_a_setting(make_compressor, tokenizer):
    compressor = make_compressor(num_memory_tokens=3)
    ids = encode_turn(tokenizer, "user: I met Mira.", compressor.vocab_size, 3)
    assert ids[-3:] == [320, 321, 322] and tokenizer.decode(ids[:-3]) == "user: I met Mira."
    assert compress(compressor, ids).vectors.shape == (1, 3, 32)


def test_save_and_load_through_the_auto_class(compressor, tmp_path):
    compressor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, MambaCompressor)
    torch.testing.assert_close(compress(loaded, TURNS[0]).vectors, compress(compressor, TURNS[0]).vectors)


def test_placeholders_are_filled_in_order_and_pass_gradients():
    ids = torch.tensor([[7, 1, 7], [1, 7, 1]])
    vectors = torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    filled = fill_placeholders(torch.zeros(2, 3, 1), ids, 7, vectors, mask)
    assert filled.squeeze(-1).tolist() == [[1, 0, 2], [0, 3, 0]]
    filled.sum().backward()
    assert vectors.grad.squeeze(-1).tolist() == [[1, 1], [1, 0]]


def test_placeholders_beyond_the_table_are_not_looked_up():
    table = torch.nn.Embedding(4, 2)
    embeds = embed_tokens(table, torch.tensor([[3, 99]]), (99,))
    assert torch.equal(embeds[0], table.weight[[3, 0]])


@pytest.mark.parametrize("num_vectors", [1, 3])
def test_as_many_placeholders_as_vectors_or_an_error(num_vectors):
    ids, mask = torch.tensor([[7, 7]]), torch.ones(1, num_vectors, dtype=torch.bool)
    with pytest.raises(PlaceholderError, match=f"2 placeholders of id 7 but {num_vectors} vectors; .* truncation"):
        fill_placeholders(torch.zeros(1, 2, 4), ids, 7, torch.zeros(1, num_vectors, 4), mask)

"""Baselines: as many vectors a turn as memories, made as each says, and the same alone as in a batch."""

import pytest
import torch
from transformers import AutoModel

from compressor.baselines.mean_pool import MeanPool
from compressor.baselines.transformer import inner_width
from compressor.kinds import KINDS, compressor_class, learns, sizes_of, take_over
from compressor.streaming import MemoryStream, StreamError
from compressor.text import CompressorDataError, pad_right
from epo.model.checkpoints import load_weights

SLOTS = [320, 321]
TURNS = ([5, 6, 7, *SLOTS], [8, 9, *SLOTS], [10, 11, 12, 13, *SLOTS])
HISTORY = sum(TURNS, [])


@pytest.fixture
def make(make_compressor, make_llm):
    """Return a tiny compressor of a kind."""

    def make(kind, **changes):
        kind_of = KINDS[kind]
        config, llm = make_compressor().config.to_dict() | changes, make_llm(seed=4)
        sizes = sizes_of(kind, config.pop("backbone_config"), llm.config, 320)
        config.pop("model_type")
        torch.manual_seed(3)
        compressor = kind_of(kind_of.config_class(**config, **sizes)).eval()
        take_over(compressor, llm)
        if kind == "gist":  # as if it had learnt something: at first its LoRA changes nothing
            for name, weight in compressor.named_parameters():
                if name.endswith("gist_up"):
                    weight.data.normal_(std=0.05)
        return compressor

    return make


def compress(compressor, *rows):
    with torch.no_grad():
        return compressor(input_ids=pad_right(rows, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_k_vectors_a_turn_whoever_else_is_in_the_batch(make, kind):
    compressor = make(kind)
    both = compress(compressor, TURNS[1], HISTORY)
    assert both.vectors.shape == (2, 6, 32)
    assert both.mask.tolist() == [[True, True, False, False, False, False], [True] * 6]
    torch.testing.assert_close(both.vectors[0, :2], compress(compressor, TURNS[1]).vectors[0], atol=1e-5, rtol=1e-5)
    padded = compress(compressor, [*TURNS[1], *[0] * 20])
    torch.testing.assert_close(padded.vectors, both.vectors[:1, :2], atol=1e-5, rtol=1e-5)
    empty = compressor(input_ids=torch.zeros(2, 1, dtype=torch.long))
    assert not empty.mask.any() and torch.isfinite(empty.vectors).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_saved_and_loaded_as_what_it_is(make, kind, tmp_path):
    compressor = make(kind)
    compressor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is KINDS[kind] is compressor_class(loaded.config)
    assert compress(loaded, HISTORY).vectors.equal(compress(compressor, HISTORY).vectors)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mamba"])
def test_baselines_read_whole_histories_and_refuse_to_stream(make, kind):
    with pytest.raises(StreamError, match="_compressor over '.*' reads whole histories .* whole history at each"):
        MemoryStream(make(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight_of_what_learns(make, kind):
    compressor = make(kind)
    assert learns(kind) == any(weight.requires_grad for weight in compressor.parameters())
    if learns(kind):
        compressor(input_ids=torch.tensor([HISTORY])).vectors.square().sum().backward()
        learnt = {name for name, weight in compressor.named_parameters() if weight.grad is not None}
        assert learnt == {name for name, weight in compressor.named_parameters() if weight.requires_grad}


def test_truncation_hands_on_the_newest_words_and_zeros_where_there_are_too_few(make):
    compressor = make("truncate")
    words = compressor.backbone.embeddings.weight
    assert compress(compressor, HISTORY).vectors[0].equal(words[[7, 8, 9, 10, 11, 12, 13][-6:]])
    short = [5, *SLOTS, *SLOTS]
    assert compress(compressor, short).vectors[0].equal(torch.cat([torch.zeros(3, 32), words[[5]]]))


def test_a_mean_is_of_its_part_of_its_turn(make):
    """Three words and two slots: the first two words are one part, the third the other; by hand."""
    compressor = make("mean_pool")
    words, slots = compressor.backbone.embeddings.weight, compressor.memory_slots.weight
    by_hand = torch.stack([slots[0] + words[[10, 11]].mean(dim=0), slots[1] + words[12]])
    ids = [*TURNS[0], 10, 11, 12, *SLOTS, 99, 99]
    with torch.no_grad():
        torch.testing.assert_close(compress(compressor, ids).vectors[0, 2:], compressor.project(by_hand))
        nothing = compressor.project(slots)  # of a turn without words
    torch.testing.assert_close(compress(compressor, SLOTS).vectors[0], nothing)
    one = compress(compressor, [10, *SLOTS]).vectors[0]  # one word is the first part, and the second is empty
    torch.testing.assert_close(one[1], nothing[1])


def test_a_transformer_has_about_as_many_weights_as_the_mamba(make, make_compressor):
    wide = make_compressor().config.backbone_config.to_dict() | {"hidden_size": 64, "num_heads": 8}
    sizes = [make(kind, backbone_config=dict(wide)).num_parameters() for kind in ("mamba", "transformer")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    assert inner_width(make_compressor(backbone_config=dict(wide)).config.backbone_config) >= 32


def test_an_earlier_memory_of_a_transformer_sees_later_turns_and_one_of_a_mean_does_not(make):
    for kind, sees in (("transformer", True), ("mean_pool", False), ("mamba", False), ("gist", False)):
        compressor = make(kind)
        one, other = (compress(compressor, [*TURNS[0], *later]).vectors[0, :2] for later in TURNS[1:])
        assert ((one - other).abs().max() > 1e-4) == sees
    assert issubclass(MeanPool, KINDS["mamba"])


def test_a_fresh_gist_reads_as_the_language_model_does_and_its_lora_is_added_by_hand(make, make_llm):
    """States of positions without slots are the language model's own; then one layer's change, W x + 2 up down x."""
    compressor, llm = make("gist"), make_llm(seed=4)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        changed = compressor.read(ids)
        for name, weight in compressor.named_parameters():
            if name.endswith("gist_up"):
                weight.zero_()
        wanted = llm.base_model(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(compressor.read(ids), wanted)
        assert (changed - wanted).abs().max() > 1e-3
        layer = compressor.backbone.layers[0].mlp.down_proj
        x = torch.randn(1, 3, 64)
        plain = layer(x)
        layer.gist_up.copy_(torch.randn(32, 16))
        by_hand = plain + 2 * x @ layer.gist_down.T @ layer.gist_up.T
        torch.testing.assert_close(layer(x), by_hand, atol=1e-4, rtol=1e-4)


def test_what_a_gist_cannot_read_is_refused(make, make_llm):
    with pytest.raises(
        CompressorDataError, match="a history of 513 tokens, and the language model knows 512 positions"
    ):
        make("gist")(input_ids=torch.full((1, 513), 5))
    llm = make_llm()
    del llm.base_model.layers[1]
    with pytest.raises(CompressorDataError, match=r"not those of its configuration \(layers.1.*leave quantize out"):
        take_over(make("gist"), llm)


@pytest.mark.parametrize("kind", ["gist", "truncate"])
def test_what_stood_still_stands_still_when_it_was_loaded(make, kind, tmp_path):
    compressor = make(kind)
    compressor.save_pretrained(tmp_path)
    loaded = load_weights(AutoModel, str(tmp_path), is_ours=True)
    still = [{name for name, p in one.named_parameters() if not p.requires_grad} for one in (compressor, loaded)]
    assert still[0] == still[1] != set()

"""Streaming: however turns are cut and whoever else is read with them, memories are those of one pass."""

import random

import pytest
import torch
from safetensors.torch import save_file

from compressor.streaming import MemoryStream, StreamError, _pieces
from compressor.text import pad_right

SLOTS = [320, 321]  # the vocabulary has 320 ids
TURNS = ([5, 6, 7, *SLOTS], [8, 9, *SLOTS], [10, 11, 12, 13, *SLOTS])
MAMBA_1 = {"model_type": "mamba", "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}


@pytest.fixture
def compressor(make_compressor):
    return make_compressor()


def whole(compressor, ids):
    with torch.no_grad():
        return compressor(input_ids=pad_right([ids], 0)).vectors[0]


def draw_dialogue(rng, num_turns=6):
    return [[rng.randrange(320) for _ in range(rng.randrange(1, 40))] + SLOTS for _ in range(num_turns)]


def cut(ids, rng):
    """Cut ids anywhere, also inside a turn or between its slots; now and then a piece has none."""
    places = sorted(rng.choices(range(len(ids) + 1), k=rng.randrange(1, 9)))
    return [ids[i:j] for i, j in zip([0, *places], [*places, len(ids)], strict=True)]


@pytest.mark.parametrize(("backbone", "seed"), [(None, 0), (None, 1), (None, 2), (None, 3), (MAMBA_1, 0)])
def test_streaming_equals_one_pass_however_dialogues_are_cut_and_interleaved(make_compressor, backbone, seed):
    compressor = make_compressor() if backbone is None else make_compressor(backbone_config=dict(backbone))
    rng = random.Random(seed)
    dialogues = [[token for turn in draw_dialogue(rng, 4) for token in turn] for _ in range(3)]
    waiting = [cut(ids, rng) for ids in dialogues]
    stream, got = MemoryStream(compressor, 3), [[] for _ in dialogues]
    while ready := [row for row, pieces in enumerate(waiting) if pieces]:
        rows = rng.sample(ready, rng.randrange(1, len(ready) + 1))
        for row, memory in stream.append_many({row: waiting[row].pop(0) for row in rows}).items():
            got[row].append(memory)
    for ids, pieces in zip(dialogues, got, strict=True):
        torch.testing.assert_close(torch.cat(pieces), whole(compressor, ids), atol=1e-5, rtol=1e-5)


def test_turns_of_several_lengths_are_read_in_few_passes_and_no_position_twice():
    rng = random.Random(0)
    for _ in range(200):
        lengths = {row: rng.randrange(0, 70) for row in range(rng.randrange(1, 9))}
        read = {row: [] for row in lengths}
        found = _pieces(lengths, False)
        for starts, size in found:
            for row, start in starts.items():
                read[row] += range(start, start + size)
        assert all(read[row] == list(range(length)) for row, length in lengths.items())
        assert len(found) <= 13 and all(size > 1 for starts, size in found if min(map(lengths.get, starts)) > 1)
    assert _pieces({0: 27, 4: 27}, False) == [({0: 0, 4: 0}, 27)]


def test_one_turn_after_another_of_one_dialogue(compressor):
    stream = MemoryStream(compressor)
    pieces = [stream.append(turn) for turn in TURNS]
    assert [piece.shape for piece in pieces] == [(2, 32)] * 3
    torch.testing.assert_close(torch.cat(pieces), whole(compressor, sum(TURNS, [])), atol=1e-5, rtol=1e-5)


def test_streams_of_two_dialogues_do_not_share_a_state(compressor):
    first, second = MemoryStream(compressor), MemoryStream(compressor)
    first.append(TURNS[0])
    torch.testing.assert_close(second.append(TURNS[1]), MemoryStream(compressor).append(TURNS[1]))


def test_a_state_has_the_same_size_after_two_turns_and_after_two_thousand(compressor, tmp_path):
    rng, sizes = random.Random(0), []
    stream = MemoryStream(compressor)
    for turns in (2, 1998):
        ids = [token for _ in range(turns) for token in (rng.randrange(320), rng.randrange(320), *SLOTS)]
        assert stream.append(ids).shape == (2 * turns, 32)
        stream.save(tmp_path / "state.safetensors")
        sizes.append((tmp_path / "state.safetensors").stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_turn_of_no_ids_changes_nothing(compressor):
    stream = MemoryStream(compressor)
    assert stream.append([]).shape == (0, 32)
    stream.append(TURNS[0])
    assert stream.append([]).shape == (0, 32)
    torch.testing.assert_close(
        stream.append(TURNS[1]), whole(compressor, [*TURNS[0], *TURNS[1]])[2:], atol=1e-5, rtol=1e-5
    )


def test_one_dialogue_goes_on_in_several_ways(compressor):
    stream = MemoryStream(compressor, 2)
    stream.append_many({0: TURNS[0], 1: TURNS[2]})
    ways = stream.select([1, 1, 0]).append_many(dict(enumerate(TURNS)))
    for row, before in ((0, 2), (1, 2), (2, 0)):
        ids = [*TURNS[before], *TURNS[row]]
        torch.testing.assert_close(ways[row], whole(compressor, ids)[2:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(  # which leaves the stream as it was
        stream.append(TURNS[1], 1), whole(compressor, [*TURNS[2], *TURNS[1]])[2:], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("num_read", [0, 2])
def test_a_saved_state_goes_on_where_it_stopped(compressor, tmp_path, num_read):
    stream = MemoryStream(compressor, 2)
    for turn in TURNS[:num_read]:
        stream.append_many({0: turn, 1: turn[1:]})
    stream.save(tmp_path / "state.safetensors")
    loaded = MemoryStream.load(tmp_path / "state.safetensors", compressor)
    assert loaded.num_dialogues == 2 and loaded.append(TURNS[2], 1).equal(stream.append(TURNS[2], 1))
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "its compressor fingerprint is [0-9a-f]{16}, this compressor's [0-9a-f]{16}; load it with the"),
        ({"num_memory_tokens": 3}, "its number of memory tokens is 2, this compressor's 3; load it with the"),
    ],
)
def test_the_state_of_another_model_or_k_is_refused_in_a_line(make_compressor, tmp_path, changes, message):
    MemoryStream(make_compressor()).save(tmp_path / "state.safetensors")
    with pytest.raises(StreamError, match=message) as error:
        MemoryStream.load(tmp_path / "state.safetensors", make_compressor(**changes))
    assert "\n" not in str(error.value) and "state.safetensors" in str(error.value)


def test_a_file_that_is_no_state_is_refused(compressor, tmp_path):
    (tmp_path / "notes.txt").write_text("no state")
    for name in ("notes.txt", "missing.safetensors"):
        with pytest.raises(StreamError, match=f"{name}: not the state of a memory stream"):
            MemoryStream.load(tmp_path / name, compressor)
    for said, metadata in (("pt", {"format": "pt"}), ("not said", None)):
        save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata)
        with pytest.raises(StreamError, match=f"model.safetensors: its format is {said}, this compressor's memory"):
            MemoryStream.load(tmp_path / "model.safetensors", compressor)


def test_ids_and_dialogues_that_are_not_there_are_refused(compressor):
    stream = MemoryStream(compressor, 2)
    with pytest.raises(StreamError, match="dialogue 1: id 322 in a turn, want ids from 0 to 321, the last 2 of them"):
        stream.append_many({0: TURNS[0], 1: [5, 322]})
    with pytest.raises(StreamError, match="dialogue 2 of a stream of 2; want 0 to 1"):
        stream.append(TURNS[0], 2)
    torch.testing.assert_close(stream.append(TURNS[1]), whole(compressor, TURNS[1]), atol=1e-5, rtol=1e-5)


def test_what_keeps_no_state_cannot_stream(make_compressor):
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64}
    backbone = {"model_type": "qwen3", "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, **sizes}
    with pytest.raises(StreamError, match="over 'qwen3' reads whole histories and keeps no state; stream with a mamba"):
        MemoryStream(make_compressor(backbone_config=backbone))

"""The compressor's benchmark: the training step it compares with is the same step, and its numbers are all there."""

import random

import pytest

from benchmarks import compressor as benchmark


@pytest.fixture
def readers(part):
    turns = [benchmark.make_turn(random.Random(i), i, 8) for i in range(40)]
    llm = benchmark.load_llm(part("llm"), "float32")
    return benchmark.make_readers(llm, part("llm"), part("mamba2"), turns, benchmark.SYSTEM)


def test_steps_then_and_now_have_one_loss(readers, monkeypatch):
    shared = []
    beyond = benchmark.CompressorTrainer._score.__globals__["logits_beyond"]
    monkeypatch.setitem(
        benchmark.CompressorTrainer._score.__globals__,
        "logits_beyond",
        lambda llm, embeds, count, columns: shared.append(count) or beyond(llm, embeds, count, columns),
    )
    found = benchmark.train_speedup(readers, rounds=1)
    assert found["train_largest_loss_gap"] < 1e-5 and found["train_speedup_real"] > 0
    assert len(shared) == 6 and min(shared) > 20  # the system prompt, in replies and turns


def test_a_prompt_of_two_thousand_turns_is_timed(readers):
    assert 0 < benchmark.prompt_ms(readers) < 5000

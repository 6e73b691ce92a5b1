"""Memories that rows have in common: read once, and bit by bit what each row would have read."""

import pytest
import torch
from peft import get_peft_model

from compressor.modeling import Memory
from epo.evaluation.evaluating import evaluate
from epo.evaluation.kept_memories import KeptMemories
from epo.training.lora import lora_config


def watch(compressor):
    """Keep the histories that a compressor reads."""
    seen = []
    read = compressor.read

    def watched(input_ids):
        seen.append(tuple(input_ids.shape))
        return read(input_ids)

    compressor.read = watched
    return seen


@pytest.fixture
def compressor(make_compressor):
    return make_compressor().eval()


def ids_of(compressor, *, rows=2, seed=0):
    torch.manual_seed(seed)
    words = torch.randint(5, compressor.vocab_size, (rows, 6))
    return torch.cat([words, torch.full((rows, 1), compressor.vocab_size)], dim=1)


class Whole:
    def __init__(self, compressor):
        self.compressor = compressor


@torch.no_grad()
def test_a_batch_is_read_once_and_another_one_by_itself(compressor):
    seen, kept, one, other = watch(compressor), KeptMemories(), ids_of(compressor), ids_of(compressor, seed=1)
    plain = compressor(input_ids=one)
    with kept.of(Whole(compressor)):
        first, again, part = compressor(input_ids=one), compressor(input_ids=one), compressor(input_ids=one[:1])
        compressor(input_ids=other)
    with kept.of(Whole(compressor)):
        later = compressor(input_ids=one)
    assert len(seen) == 1 + 3
    for found in (first, again, later):
        assert isinstance(found, Memory) and found.vectors.equal(plain.vectors) and found.mask.equal(plain.mask)
    assert part.vectors.shape[0] == 1


@torch.no_grad()
def test_afterwards_everything_is_read_again(compressor):
    seen, one = watch(compressor), ids_of(compressor)
    with pytest.raises(ZeroDivisionError), KeptMemories().of(Whole(compressor)):
        compressor(input_ids=one)
        raise ZeroDivisionError
    compressor(input_ids=one)
    assert len(seen) == 2 and "forward" not in vars(compressor)


def test_what_is_learnt_from_is_never_kept(compressor):
    seen, one = watch(compressor), ids_of(compressor)
    with KeptMemories().of(Whole(compressor)):
        assert all(compressor(input_ids=one).vectors.requires_grad for _ in range(2))
    assert len(seen) == 2


@torch.no_grad()
def test_each_model_has_its_own_and_each_precision(compressor, make_compressor):
    other, kept, one = make_compressor().eval(), KeptMemories(), ids_of(compressor)
    other.memory_head.bias.data.add_(1)
    with kept.of(Whole(compressor)), kept.of(Whole(other)):
        assert not compressor(input_ids=one).vectors.equal(other(input_ids=one).vectors)
        exact = compressor(input_ids=one).vectors
        with torch.autocast("cpu", torch.bfloat16):
            rounded = compressor(input_ids=one).vectors
    assert exact.dtype == torch.float32 and not rounded.float().equal(exact)


@torch.no_grad()
def test_no_more_is_kept_than_the_limit(compressor):
    seen, one, two = watch(compressor), ids_of(compressor), ids_of(compressor, rows=3)
    size = compressor(input_ids=one).vectors.numel() * 4
    with KeptMemories(max_bytes=size).of(Whole(compressor)):
        for _ in range(3):
            compressor(input_ids=two)
            compressor(input_ids=one)
    assert len(seen) == 1 + 3 + 1


def test_a_model_without_a_compressor_is_left_alone():
    plain = torch.nn.Linear(2, 2)
    with KeptMemories().of(plain), KeptMemories().of(None):
        assert "forward" not in vars(plain)


@pytest.mark.slow
def test_an_evaluation_is_the_same_with_and_without(model_and_processor, examples, pairs, monkeypatch):
    """All tests of a model with a LoRA: rewards, gold replies and generated ones."""
    model, processor = model_and_processor
    policy = get_peft_model(model, lora_config(model, 4, 8, 0.0))
    for name, parameter in policy.named_parameters():
        if ".lora_B." in name:
            torch.manual_seed(0)
            parameter.data.normal_(std=0.3)
    seen = watch(model.compressor)

    def report():
        seen.clear()
        asked = {"processor": processor, "with_variants": True, "pairs": pairs}
        found = evaluate(policy, [pair.reply for pair in pairs], ["lengths", "gold_nll", "rewards"], **asked)
        return found["rows"], len(seen)

    rows, few = report()
    with monkeypatch.context() as patched:
        patched.setattr(KeptMemories.__init__, "__defaults__", (0,))
        same, many = report()
    assert rows == same and len(rows) > 5
    assert few < many / 2

"""The probe of coherence: against one token at a time, alone as batched, and with a model whose numbers are known."""

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.model.tokenizer import train_tokenizer
from epo.preferences import coherence
from epo.preferences.coherence import CoherenceReader
from epo.preferences.pair import PreferencePair
from epo.preferences.shortcuts import probe_coherence, probe_report

REPLIES = ("I lost my keys.", "How sad, all of it, and on such a day too!", "No.", "Keys are in the door.", "Oh no")
TURNS = (Turn("user", "Hello there,\n friend."), Turn("assistant", "What happened?"), Turn("user", "I lost my keys."))
CONTEXTS = (TURNS, TURNS[1:], (), TURNS, TURNS[:1])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*REPLIES, *(turn.text for turn in TURNS)] * 4, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@torch.no_grad()
def one_token_at_a_time(model, tokenizer, turns, reply):
    said = "".join(f"{turn.speaker}: {' '.join(turn.text.split())}\n" for turn in turns) + "assistant:"
    ids = tokenizer.encode(said)
    nats = []
    for token in tokenizer.encode(f" {reply}", add_special_tokens=False):
        nats.append(torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], dim=0)[token].item())
        ids = [*ids, token]
    return sum(nats) / len(nats)


def test_it_is_what_one_token_at_a_time_gives(model, tokenizer):
    found = CoherenceReader(model, tokenizer).read(CONTEXTS, REPLIES)
    slow = [one_token_at_a_time(model, tokenizer, *row) for row in zip(CONTEXTS, REPLIES, strict=True)]
    assert found.tolist() == pytest.approx(slow, abs=1e-5)
    assert len(set(np.round(found, 4))) == len(REPLIES)


def test_batched_equals_alone_and_padding_changes_nothing(model, tokenizer, monkeypatch):
    reader = CoherenceReader(model, tokenizer)
    together = reader.read(CONTEXTS, REPLIES)
    alone = [reader.read([turns], [reply])[0] for turns, reply in zip(CONTEXTS, REPLIES, strict=True)]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)
    for name in ("_BATCH_TOKENS", "_BATCH_SCORES"):
        with monkeypatch.context() as patch:
            patch.setattr(coherence, name, 1)
            assert reader.read(CONTEXTS, REPLIES).tolist() == pytest.approx(alone, abs=1e-5)


def test_a_model_that_finds_all_tokens_alike(tokenizer):
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1
    )
    flat = LlamaForCausalLM(config)
    torch.nn.init.zeros_(flat.lm_head.weight)
    found = CoherenceReader(flat, tokenizer).read(CONTEXTS, REPLIES)
    assert found.tolist() == pytest.approx([-math.log(len(tokenizer))] * len(REPLIES), rel=1e-5)


def test_a_long_context_loses_its_beginning_and_no_text_is_too_long(model, tokenizer):
    reader = CoherenceReader(model, tokenizer)
    end = Turn("user", "keys " * 200)
    with_more = reader.read([(Turn("user", "What a day."), end)], ["No."])
    assert with_more == pytest.approx(reader.read([(end,)], ["No."]), abs=1e-5)
    assert np.isfinite(reader.read([(end,)], ["keys " * 200])).all()
    assert np.isfinite(reader.read([()], ["\u4f60\u597d \U0001f600"])).all()


class _Bigrams:
    """Finds a reply likely that holds the context's last word, and in itself the likelier the shorter it is."""

    def read(self, contexts, replies):
        return np.array(
            [
                float(bool(turns) and turns[-1].text.split()[-1] in reply) - len(reply) / 10
                for turns, reply in zip(contexts, replies, strict=True)
            ]
        )


def pairs_of(*sides):
    user = Turn("user", "I have a dog")
    return [
        PreferencePair(Reply(f"d{i}", 1, (), user, chosen, "sad"), rejected, "happy", "x")
        for i, (chosen, rejected) in enumerate(sides)
    ]


def test_shares_by_hand():
    # With "dog" 1 is won, each letter costs 0.1. dog/cat: won. "a dog and all of it"/"no": 1 - 1.9 < -0.2, lost;
    # without what each is in itself 1 > 0, won. cat/dog: lost twice. cat/cow: a tie twice.
    pairs = pairs_of(("dog", "cat"), ("a dog and all of it", "no"), ("cat", "dog"), ("cat", "cow"))
    found = probe_coherence(pairs, _Bigrams())
    assert (found.coherence, found.coherence_pmi, found.num_pairs) == (1.5 / 4, 2.5 / 4, 4)
    assert found.chosen_nats == pytest.approx((0.7 - 0.9 - 0.3 - 0.3) / 4)
    report = probe_report(pairs, _Bigrams())
    assert report["probes"]["coherence"] == 1.5 / 4 and report["probe_intervals"]["coherence"][0] < 0.2
    assert report["coherence"] == {
        "chosen_nats": found.chosen_nats, "rejected_nats": found.rejected_nats, "num_pairs": 4,
    }  # fmt: skip
    assert probe_coherence([], _Bigrams()) is None
    assert set(probe_report(pairs, None)["probes"]) == {"topic", "length"}


def test_no_more_pairs_are_read_than_are_said(monkeypatch):
    monkeypatch.setattr("epo.preferences.shortcuts._MAX_COHERENCE_PAIRS", 3)
    pairs = pairs_of(*[("dog", "cat")] * 10)
    assert probe_coherence(pairs, _Bigrams()).num_pairs == 3


def test_pairs_without_emotions_are_probed(model, tokenizer):
    user = Turn("user", "I have a dog")
    pairs = [PreferencePair(Reply(f"d{i}", 1, (), user, "dog", None), "cat", None, "people") for i in range(2)]
    report = probe_report(pairs, CoherenceReader(model, tokenizer))
    assert set(report["probes"]) == {"topic", "length", "coherence", "coherence_pmi"}

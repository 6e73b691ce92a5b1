"""Measures of memories: what a reply repeats of its history, at which age, and scores by hand."""

import numpy as np
import pytest
import torch

from compressor.fitting import FixedParts
from compressor.utterance import Utterance
from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.evaluation.memory_costs import Readers, break_even, measure_costs
from epo.evaluation.memory_quality import HistoryReader, Mention, QualityTest, Scores, mentions, token_places
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders

PAST = (
    Turn("user", "I met Mira at 7."),
    Turn("assistant", "And Otto?"),
    Turn("user", "Otto, too."),
    Turn("assistant", "Ah."),
)


def reply(text, current="So it was.", **changes):
    return Reply("d", 5, PAST, Turn("user", current), text, None, **changes)


def test_mentions_are_what_only_the_history_tells_with_the_age_of_the_last_time():
    said = reply("Were you happy that Mira and Otto came at 7 with Lena?")
    assert sorted(mentions(said), key=str) == sorted([Mention("mira", 4), Mention("otto", 2), Mention("7", 4)], key=str)
    assert mentions(reply("You and Mira!", current="Mira left.")) == []  # the turn to answer says it itself
    assert mentions(reply("I see.", facts=("Mira",))) == []
    assert mentions(reply("mira, at 7", facts=("Mira", "at 7"))) == [Mention("Mira", 4), Mention("at 7", 4)]


def test_the_tokens_of_words_are_found_in_a_reply(tokenizer):
    ids = tokenizer.encode("I am glad you told me about Mira.", add_special_tokens=False)
    places = token_places(tokenizer, ids, "", "Mira")
    assert "Mira" in tokenizer.decode([ids[i] for i in places]) and len(places) < len(ids)
    assert places == list(range(places[0], places[-1] + 1))
    assert token_places(tokenizer, ids, "", "Otto") == []


@pytest.fixture
def reader(make_llm, tokenizer):
    memory_id = add_placeholders(tokenizer)["memory_token_id"]
    return HistoryReader(make_llm(), tokenizer, memory_id, Layout(), batch_size=2)


def test_scores_are_those_of_a_row_alone_and_of_the_model_itself(reader, examples):
    prompts = [reader.as_text(example) for example in examples[:3]]
    said = [reader.chat.encode_reply(example.text) for example in examples[:3]]
    for prompt, ids, score in zip(prompts, said, reader.score(prompts, said), strict=True):
        with torch.no_grad():
            logits = reader.llm(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        wanted = -logits.log_softmax(dim=-1)[range(len(ids)), ids]
        np.testing.assert_allclose(score.nll, wanted, atol=1e-4)
        assert score.is_likeliest.tolist() == (logits.argmax(dim=-1) == torch.tensor(ids)).tolist()


def test_each_way_of_telling_is_reported_beside_the_whole_history(reader, make_compressor, make_tokenizer, examples):
    test = QualityTest(reader, examples)
    full, none, newest = test.with_text(), test.without_history(), test.newest_turns(4)
    assert full["gap"] == 0 and full["gap_interval"] == (0, 0)
    assert none["gap"] == pytest.approx(none["nll"] - full["nll"])
    assert newest["num_replies"] == full["num_replies"] == len(examples)
    compressor, words = make_compressor(), make_tokenizer()
    own = test.memory_scores(compressor, words)
    told = test.memory(compressor, words, own)
    assert told["nll"] == pytest.approx(np.mean([score.nll.mean() for score in own]))
    assert told["nll_swapped"] != told["nll"] and told["recall"]["all"]["count"] > 0
    assert told["reconstruction"]["num_turns"] == len(examples) and 0 <= told["reconstruction"]["rouge_l"] <= 1
    ages = [turn.age for turn in test.rebuilt(compressor, words)]
    assert ages == [len(r.history) - i % len(r.history) for i, r in enumerate(examples)]
    assert test.difference(own, own) == {"nats_a_token": 0, "interval": (0, 0)}
    better = [Scores(score.nll - 0.5, score.is_likeliest) for score in own]
    assert test.difference(better, own)["nats_a_token"] == pytest.approx(0.5, abs=1e-5)


def test_newest_turns_take_no_more_room_than_the_memories(reader, examples):
    for example in examples:
        room = len(reader.as_memory(example, 4))
        assert len(reader.as_text(example, is_told=False)) <= len(reader.as_text(example, room)) <= room


def test_costs_are_counted_by_hand_and_streamed_turns_are_among_them(reader, make_compressor, make_tokenizer):
    readers = Readers(
        reader.llm, reader.tokenizer, reader.memory_id, make_compressor(), make_tokenizer(), FixedParts("", "", "Yes?")
    )
    turns = [Utterance("user", "I met Mira."), Utterance("assistant", "How was it?")]
    short, long = measure_costs(readers, turns, [2, 8], repeats=1)
    assert (short["history_memory_tokens"], long["history_memory_tokens"]) == (4, 16)
    assert short["text_tokens"] - short["history_text_tokens"] == short["memory_tokens"] - 4
    assert long["history_text_tokens"] == 4 * short["history_text_tokens"]
    assert all(row[name] > 0 for row in (short, long) for name in ("text_ms", "compress_ms", "memory_ms", "turn_ms"))
    assert long["text_bytes"] > short["text_bytes"] > 0 and long["memory_bytes"] > short["memory_bytes"] > 0


@pytest.mark.parametrize(
    ("gains", "wanted"),
    [([-10, -5, 5, 20], 15.0), ([1, 2, 3, 4], 2.0), ([-1, 2, -1, -2], None), ([-4, 2, -2, 2], 35.0)],
)
def test_break_even_is_where_memories_stay_faster(gains, wanted):
    rows = [
        {"turns": turns, "text_ms": 100 + gain, "compress_ms": 60, "memory_ms": 40}
        for turns, gain in zip((2, 10, 20, 50), gains, strict=True)
    ]
    assert break_even(rows) == wanted

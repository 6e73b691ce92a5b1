"""Summaries by the language model: asked once, within the budget of memories, and read in their place."""

import pytest

from compressor.utterance import Utterance
from epo.asking.answer_cache import AnswerCache
from epo.evaluation.memory_quality import HistoryReader, QualityTest
from epo.evaluation.text_summaries import SummaryWriter, summary_report
from epo.preferences.local_chat import LocalChat
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders

TURNS = [Utterance("user", "I met Mira.", "sad"), Utterance("assistant", "How was it?")]


@pytest.fixture
def reader(make_llm, tokenizer):
    memory_id = add_placeholders(tokenizer)["memory_token_id"]
    return HistoryReader(make_llm(), tokenizer, memory_id, Layout(), batch_size=4)


@pytest.fixture
def asked(monkeypatch):
    """Answer in the place of the model, and note the questions with the budget of each."""
    found = []

    def answers(chat, questions):
        found.extend((question.messages[-1]["content"], chat.identity["max_tokens"]) for question in questions)
        return ((place, "Mira  was\nmet, " + "and so on " * 30) for place in range(len(questions)))

    monkeypatch.setattr(LocalChat, "answers", answers)
    return found


def test_each_history_is_asked_about_once_within_its_budget(reader, asked, tmp_path):
    cache = AnswerCache(tmp_path / "summaries.jsonl")
    writer = SummaryWriter("tiny", reader.llm, reader.tokenizer, cache)
    first, again, longer = writer.write([TURNS, TURNS, TURNS], [8, 8, 16])
    assert first == again and first.text.startswith("Mira was met, and so on") and first.num_left_out == 0
    assert [budget for _, budget in asked] == [8, 16]
    assert "user (sad): I met Mira.\nassistant: How was it?" in asked[0][0]
    assert "at most 6 words" in asked[0][0] and "at most 12 words" in asked[1][0]
    reopened = SummaryWriter("tiny", reader.llm, reader.tokenizer, AnswerCache(tmp_path / "summaries.jsonl"))
    assert reopened.write([TURNS], [16]) == [longer] and len(asked) == 2
    assert SummaryWriter("tiny", reader.llm, reader.tokenizer).write([TURNS], [16]) == [longer] and len(asked) == 3


def test_what_the_model_has_no_positions_for_is_counted(reader, asked):
    """512 positions: of 60 turns the newest are shown."""
    (summary,) = SummaryWriter("tiny", reader.llm, reader.tokenizer).write([TURNS * 30], [120])
    shown = asked[0][0].count("assistant: How was it?") + asked[0][0].count("user (sad): I met Mira.")
    assert 0 < shown < 60 and summary.num_left_out == 60 - shown
    assert len(reader.chat.encode_prompt([{"role": "user", "content": asked[0][0]}])) <= 512 - 120


def test_a_summary_takes_no_more_room_than_memories_and_is_scored_like_them(reader, asked, examples):
    test = QualityTest(reader, examples)
    for k in (4, 8):
        report = summary_report(test, reader, SummaryWriter("tiny", reader.llm, reader.tokenizer), k)
        assert report["num_replies"] == len(examples) and report["num_cut"] == 0
        assert report["nll"] != test.without_history()["nll"] and report["gap"] != 0
        rooms = [k * len(reply.history) for reply in test.replies]
        assert 0 < report["summary_words"] <= max(rooms)


def test_the_model_itself_writes_and_reads(reader, examples):
    """An untrained one: whatever it says, it is a report."""
    test = QualityTest(reader, examples[:2])
    writer = SummaryWriter("tiny", reader.llm, reader.tokenizer)
    report = summary_report(test, reader, writer, 2)
    assert report == summary_report(test, reader, writer, 2)
    assert set(report) >= {"nll", "gap", "recall", "summary_words", "num_cut"}

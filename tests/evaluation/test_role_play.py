"""Role-played users: a real model talks with one over the wire, is stopped half-way and goes on, and is scored."""

import json

import pytest

from launch import rate
from epo.asking.endpoint import EndpointError
from epo.data.cache import ClipCache
from epo.data.dialogue import DataError, Dialogue, Turn, read_dialogues, write_dialogues
from epo.evaluation.conversation import Conversation
from epo.evaluation.role_cards import RoleCard, read_cards
from epo.evaluation.role_play import PlayedTalk
from epo.evaluation.talk_scores import TalkScores
from epo.judging.degenerate_text import is_degenerate

CARDS = [{"id": f"c{i}", "who": f"nurse {i}.", "situation": f"Cat {i} is ill.", "emotion": "Sad"} for i in range(3)]


@pytest.fixture
def start(tmp_path, make_model, monkeypatch):
    """What `talk` is called with but the endpoint; the model is a tiny one, and really replies."""
    from epo.model import loading

    model = make_model()
    monkeypatch.setattr(loading, "load_model", lambda *arguments: model)
    monkeypatch.setattr("launch.played_talks.chosen", lambda folder, adapter: (folder, None))
    cards = tmp_path / "cards.jsonl"
    cards.write_text("".join(json.dumps(card) + "\n" for card in CARDS))
    options = ["--cards", str(cards), "--out", str(tmp_path / "out"), "--turns", "2", "--batch_size", "2"]
    return ["talk", "m", *options], model


def at(stub):
    patience = ["--tries", "1", "--first_pause_s", "0.001", "--concurrency", "1"]
    return ["--endpoint", stub.url, "--model", "m", "--key_variable", "TEST_KEY", *patience]


def readable(text):
    """Without the control characters that an untrained model says and that are no part of a dialogue."""
    return "".join(character for character in text if character.isprintable())


def play(body):
    """Say which card is played and how many replies were heard."""
    messages = body["messages"]
    return f"I am {messages[0]['content'].split('You are ')[1].split('.')[0]}, turn {len(messages) // 2}."


def test_the_user_answers_what_the_model_said_and_a_stopped_run_goes_on(start, stub, tmp_path, capsys):
    command, (model, processor) = start
    stub.say = play
    stub.misbehave = lambda number: (400, {}, "down") if number == 6 else None
    with pytest.raises(EndpointError, match="status 400: down; answers so far are kept"):
        rate.main([*command[:6], "--turns", "2", "--batch_size", "2", *at(stub)])
    assert [dialogue.id for dialogue in read_dialogues(tmp_path / "out" / "talks.jsonl")] == ["c0", "c1"]
    kept = tmp_path / "out" / "talks.jsonl"  # a separator ends a line of text, but none of JSON
    kept.write_text(kept.read_text(encoding="utf-8").replace("turn 1", "turn\u20281", 1), encoding="utf-8")
    stub.misbehave, asked = lambda number: None, len(stub.requests)
    rate.main([*command, *at(stub)])
    assert len(stub.requests) - asked == 1, "only the last turn of the third card is open"
    talks = list(read_dialogues(tmp_path / "out" / "talks.jsonl"))
    alone = Conversation(model, processor, ClipCache(None), max_new_tokens=64)
    for played, words in zip(talks[2].turns[1::2], ("turn 1", "turn 2"), strict=True):
        assert readable(alone.say(Turn("user", f"I am nurse 2, {words}.")).text) == readable(played.text)
    assert all(turn.clip is None and turn.emotion is None for turn in talks[0].turns[::2])
    messages = stub.requests[-1][2]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert (
        readable(messages[-1]["content"]) == readable(talks[2].turns[1].text)
        and "You feel sad." in messages[0]["content"]
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["num_talks"], report["ended_early"]) == (3, {}) and "carry no clip" in report["notes"][0]
    assert "3 talks of 3 cards, 0 ended early" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the talks there were made with other settings"):
        rate.main([*command, *at(stub), "--temperature", "0"])


def test_a_user_who_says_nonsense_ends_that_talk_alone(start, stub, tmp_path):
    command, _ = start
    stub.say = lambda body: "<|memory|>" if "nurse 1" in body["messages"][0]["content"] else play(body)
    rate.main([*command, *at(stub)])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["ended_early"]) == ["c1"] and "turn 0: the text '<|memory|>'" in report["ended_early"]["c1"]
    assert [dialogue.id for dialogue in read_dialogues(tmp_path / "out" / "talks.jsonl")] == ["c0", "c2"]


def test_scores_by_reply_number(stub, tmp_path, capsys):
    """Two talks of two replies: the judge gives 4 and 2 for empathy, then 5, and once nothing that can be read."""
    talks = tmp_path / "talks.jsonl"
    said = {"a": ("One 0.", "One 0."), "b": ("One 1.", "Two.")}
    write_dialogues(
        talks,
        [
            Dialogue(name, tuple(turn for text in texts for turn in (Turn("user", "Hi."), Turn("assistant", text))))
            for name, texts in said.items()
        ],
    )
    marks = {"One 0.": 4, "One 1.": 2, "Two.": 5}

    def say(body):
        *before, asked = body["messages"][-1]["content"].split("\n\nReply: ")
        said = asked.split("\n\n")[0]
        if "One 0." in before[0]:
            return "Lovely, 5 of 5."
        return f"empathy: {marks[said]}\nrelevance: 3\nfluency: 3\nemotional fit: 3"

    stub.say = say
    rate.main(["score", str(talks), "--out", str(tmp_path / "scores.json"), *at(stub)])
    found = json.loads((tmp_path / "scores.json").read_text())
    empathy = found["by_reply_number"]["empathy"]
    assert (empathy["1"]["score"], empathy["1"]["num_replies"]) == (3.0, 2)
    assert (empathy["2"]["score"], empathy["2"]["num_replies"], empathy["2"]["interval"]) == (5.0, 1, None)
    assert found["by_reply_number"]["repeated"]["2"]["score"] == 0.5
    assert found["unreadable"][0] == "a: turn 3, empathy" and len(found["unreadable"]) == 4
    told = capsys.readouterr().out
    assert "empathy: reply 1: 3.00 of 2; reply 2: 5.00 of 1" in told and "4 ratings unreadable" in told
    assert TalkScores([]).questions == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "a", "who": "x", "situation": "y"}, "1: 'emotion' is missing; want"),
        ({"id": "a", "who": "", "situation": "y", "emotion": "sad"}, "1: 'who' is ''; want"),
        ({"id": "a", "who": "x", "situation": "y", "emotion": "wry"}, "unknown emotion 'wry'"),
    ],
)
def test_what_is_no_card_is_refused(line, message, tmp_path):
    (tmp_path / "cards.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match=message):
        read_cards(tmp_path / "cards.jsonl")


def test_a_silent_reply_stays_in_the_talk_and_is_degenerate():
    said = PlayedTalk(RoleCard("a", "x", "y", "sad"), (Turn("user", "Hi."), Turn("assistant", "\x16 "))).dialogue()
    assert said.turns[1].text == "\u2026" and is_degenerate(said.turns[1].text)


def test_cards_come_once(tmp_path):
    card = {"id": "a", "who": "a nurse.", "situation": "y", "emotion": "sad", "more": 1}
    (tmp_path / "cards.jsonl").write_text(json.dumps(card) + "\n")
    assert read_cards(tmp_path / "cards.jsonl") == [RoleCard("a", "a nurse", "y", "sad")]
    (tmp_path / "cards.jsonl").write_text((json.dumps(card) + "\n") * 2)
    with pytest.raises(DataError, match=r"2: card 'a' comes twice; give each its own id"):
        read_cards(tmp_path / "cards.jsonl")

"""The endpoint source against a server on this machine that speaks the wire format, and misbehaves in every way."""

from base64 import b64encode

import pytest

from epo.asking.answer_cache import AnswerCache, question_key
from epo.asking.endpoint import ChatClient, Endpoint, EndpointError
from epo.asking.endpoint_chat import EndpointChat, Volume
from epo.data.dialogue import Dialogue, Turn
from epo.preferences.gold import collect_gold
from epo.preferences.sources.llm import LlmSource

GOLD = collect_gold(
    [
        Dialogue(
            f"d{i}",
            (Turn("user", f"My cat Tom {i} is ill."), Turn("assistant", f"Poor Tom {i}.", "sad")),
            split="train",
        )
        for i in range(12)
    ],
    "train",
    "all",
    False,
)
KEY = "sk-very-secret"


def make(stub, tmp_path, concurrency=4, max_requests=100, candidates=1, **changes):
    settings = {"timeout_s": 0.3, "tries": 4, "first_pause_s": 0.001, "key_variable": "TEST_KEY"} | changes
    cache = AnswerCache(tmp_path / "cache.jsonl")
    client = ChatClient(Endpoint(stub.url, "m", **settings), concurrency)
    chat = EndpointChat(client, Volume(concurrency, max_requests))
    return LlmSource(chat, cache, candidates, context_turns=3, seed=0)


def ask(source, gold=GOLD):
    return source.propose(gold, ["angry"] * len(gold))


EXPECTED = [[f"GRR Poor Tom {i}."] for i in range(12)]


def test_wire_format_prompt_and_concurrency(stub, tmp_path):
    assert ask(make(stub, tmp_path)) == EXPECTED
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.7, 256, 0)
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", *["user", "assistant"] * 7, "user"]
    prompt = body["messages"][-1]["content"]
    assert prompt.index("user: My cat Tom") < prompt.index("Line (sad): Poor Tom") < prompt.index("Rewrite it: angry")
    assert 2 <= stub.most_busy <= 4


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0"}, "slow down"),
        (500, {}, "oops"),
        (503, {}, ""),
        "hang",
        (200, {}, "<html>not json"),
        (200, {}, '{"choices": []}'),
        (200, {}, '{"choices": [{"message": {"content": null}}]}'),
        (200, {}, '{"choices": [{"message": {"content": "  "}}]}'),
        (200, {}, '["choices"]'),
    ],
    ids=lambda fault: fault if fault == "hang" else f"{fault[0]} {fault[2][:24]}",
)
def test_every_second_answer_wrong_changes_nothing(stub, tmp_path, fault):
    stub.misbehave = lambda number: fault if number % 2 else None
    assert ask(make(stub, tmp_path, concurrency=1), GOLD[:4]) == EXPECTED[:4]


def test_an_endpoint_that_is_down_loses_nothing_and_the_next_run_goes_on(stub, tmp_path):
    stub.misbehave = lambda number: (500, {}, f"broken, key {KEY}") if number > 5 else None
    with pytest.raises(EndpointError, match=r"status 500 after 4 tries: broken, key \*\*\*.*; answers so far are kept"):
        ask(make(stub, tmp_path, concurrency=1))
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 5
    stub.requests.clear()
    stub.misbehave = lambda number: None
    assert ask(make(stub, tmp_path)) == EXPECTED
    assert len(stub.requests) == 7


def test_nothing_listens(stub, tmp_path):
    source = make(stub, tmp_path)
    stub.shutdown()
    stub.server_close()
    with pytest.raises(EndpointError, match=r"127.0.0.1:\d+/v1 \(m\): no answer after 4 tries"):
        ask(source)


def test_too_slow_for_the_timeout(stub, tmp_path):
    stub.misbehave = lambda number: "hang"
    with pytest.raises(EndpointError, match=r"no answer after 2 tries \(ReadTimeoutError\)"):
        ask(make(stub, tmp_path, timeout_s=0.05, tries=2), GOLD[:2])


def test_an_answer_that_stays_unusable_drops_that_pair_alone(stub, tmp_path):
    nonsense = (200, {}, "{}")
    stub.misbehave = lambda number: nonsense if "Tom 3 " in stub.requests[-1][2]["messages"][-1]["content"] else None
    found = ask(make(stub, tmp_path, concurrency=1))
    assert found == [*EXPECTED[:3], [], *EXPECTED[4:]]
    assert len(stub.requests) == 11 + 3


def test_nothing_but_nonsense_is_no_endpoint(stub, tmp_path):
    stub.misbehave = lambda number: (200, {}, "hello")
    with pytest.raises(EndpointError, match="20 answers in a row were unusable.*is it an OpenAI-compatible"):
        ask(make(stub, tmp_path, concurrency=2))


def test_a_wrong_key_is_refused_at_once_and_not_shown(stub, tmp_path):
    stub.misbehave = lambda number: (401, {}, f"Incorrect API key {KEY[:6]}***")
    with pytest.raises(EndpointError, match="status 401; put a valid key into the variable TEST_KEY") as error:
        ask(make(stub, tmp_path, concurrency=1))
    assert KEY[:6] not in str(error.value) and len(stub.requests) == 1


def test_redirects_are_not_followed(stub, tmp_path):
    stub.misbehave = lambda number: (307, {"Location": "http://127.0.0.1:9/"}, "")
    with pytest.raises(EndpointError, match="status 307"):
        ask(make(stub, tmp_path, concurrency=1))


def test_volume_is_capped_before_anything_is_sent(stub, tmp_path):
    with pytest.raises(EndpointError, match="12 questions would have to be asked, llm_max_requests is 11"):
        ask(make(stub, tmp_path, max_requests=11))
    assert stub.requests == []
    stub.misbehave = lambda number: (200, {}, "{}") if number == 1 else None
    with pytest.raises(EndpointError, match="llm_max_requests 12 reached"):
        ask(make(stub, tmp_path, max_requests=12, concurrency=1))


def test_no_key_no_header(stub, tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    ask(make(stub, tmp_path), GOLD[:1])
    assert "Authorization" not in stub.requests[0][1]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "", "http://"])
def test_addresses_that_are_none(url):
    with pytest.raises(EndpointError, match="llm_base_url is .*, want such as"):
        ChatClient(Endpoint(url, "m"), 1)


def test_a_key_travels_unencrypted_on_this_machine_only(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    for url in ("http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1", "https://example.org/v1"):
        ChatClient(Endpoint(url, "m", "TEST_KEY"), 1)
    with pytest.raises(EndpointError, match="would carry the key in TEST_KEY unencrypted"):
        ChatClient(Endpoint("http://example.org/v1", "m", "TEST_KEY"), 1)
    monkeypatch.delenv("TEST_KEY")
    ChatClient(Endpoint("http://example.org/v1", "m", "TEST_KEY"), 1)


def test_a_login_in_the_address_is_used_and_never_shown(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        type(stub), "url", property(lambda self: f"http://me:pa%3Ass-word@127.0.0.1:{self.server_port}/v1")
    )
    source = make(stub, tmp_path, concurrency=1)
    ask(source, GOLD[:1])
    assert stub.requests[0][1]["Authorization"] == "Basic " + b64encode(b"me:pa:ss-word").decode()
    stub.misbehave = lambda number: (400, {}, "no user me with pa:ss-word here")
    with pytest.raises(
        EndpointError, match=r"http://\*\*\*@127.0.0.1:\d+/v1 \(m\): status 400: no user me with \*\*\* here"
    ):
        ask(source)
    with pytest.raises(EndpointError, match=r"'http://\*\*\*@example.org/v1' would carry its password unencrypted"):
        ChatClient(Endpoint("http://me:pa%3Ass-word@example.org/v1", "m", "NO_KEY"), 1)


def test_several_candidates_are_several_questions_and_equal_answers_one(stub, tmp_path):
    found = ask(make(stub, tmp_path, candidates=3), GOLD[:2])
    assert found == EXPECTED[:2]  # this endpoint says the same whatever the seed
    assert sorted(body["seed"] for _, _, body in stub.requests) == [0, 0, 3, 3, 6, 6]
    stub.requests.clear()
    assert ask(make(stub, tmp_path, candidates=4), GOLD[:2]) == EXPECTED[:2]
    assert [body["seed"] for _, _, body in stub.requests] == [9, 9]


def test_what_other_requests_answered_while_one_failed_is_kept(stub, tmp_path):
    stub.misbehave = lambda number: (400, {}, "no") if number == 4 else None
    with pytest.raises(EndpointError, match="status 400: no; answers so far are kept"):
        ask(make(stub, tmp_path, concurrency=4))
    answered = len(stub.requests) - 1
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == answered >= 3


def test_cache_survives_a_torn_last_line(tmp_path):
    path = tmp_path / "cache.jsonl"
    AnswerCache(path).put("a", "Ünï")
    path.write_bytes(path.read_bytes() + b'{"key": "b", "te')
    cache = AnswerCache(path)
    assert cache.get("a") == "Ünï" and cache.get("b") is None
    cache.put("b", "two")
    assert AnswerCache(path).get("b") == "two"


def test_question_key_depends_on_every_part():
    keys = {question_key(model=model, prompt=prompt) for model in "ab" for prompt in "ab"}
    assert len(keys) == 4 and question_key(a=1, b=2) == question_key(b=2, a=1)

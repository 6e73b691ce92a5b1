"""A judge over the wire: both orders, flips, nonsense, an endpoint that goes down half-way, and agreement by hand."""

import csv
import io
import json

import pytest
from endpoint_stub import KEY

from launch import rate
from epo.asking.endpoint import EndpointError
from epo.evaluation.rating_sheets import RATING_COLUMNS, RatingItem, write_sheets

GOOD_RATINGS = "empathy: 4\nrelevance: 3\nfluency: 5\nemotional fit: 2"


@pytest.fixture
def key(corpus, examples, tmp_path):
    """Four items: ours is A in p0 and p2; replies say their own item and system, so that a stub can judge them."""
    systems = [("ours", "theirs"), ("theirs", "ours")]
    items = [
        RatingItem(
            f"p{i}", examples[i].dialogue_id, examples[i].turn, *systems[i % 2], *(f"{s} {i}." for s in systems[i % 2])
        )
        for i in range(4)
    ]
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text(json.dumps({"settings": {"data": str(corpus / "dialogues.jsonl")}}))
    path = tmp_path / "out.key.json"
    write_sheets(tmp_path / "out", path, items, examples[:4], {"report": str(report), "ratings": True})
    return path


def prefer(system):
    """A judge that prefers a system wherever it stands."""

    def say(body):
        asked = body["messages"][-1]["content"]
        if "Reply A:" not in asked:
            return GOOD_RATINGS
        return f"Verdict: {'A' if asked.split('Reply A: ')[1].startswith(system) else 'B'}"

    return say


def first(body):
    """A judge that prefers what comes first."""
    return "Verdict: A" if "Reply A:" in body["messages"][-1]["content"] else GOOD_RATINGS


def judge(key, stub, name="gpt", **changes):
    settings = {"concurrency": 1, "tries": 2, "first_pause_s": 0.001, "timeout_s": 60} | changes
    options = [word for option, value in settings.items() for word in (f"--{option}", str(value))]
    out = key.with_name(f"{name}.csv")
    where = ["--key", str(key), "--out", str(out), "--endpoint", stub.url, "--model", "m", "--key_variable", "TEST_KEY"]
    rate.main(["judge", *where, *options])
    return out


def rows(path):
    return {row["item"]: row for row in csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))}


def about(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_a_steady_judge_fills_the_sheet_in_both_orders(key, stub, capsys):
    stub.say = prefer("ours")
    out = judge(key, stub)
    assert {item: row["choice"] for item, row in rows(out).items()} == {"p0": "A", "p1": "B", "p2": "A", "p3": "B"}
    assert rows(out)["p0"]["emotional_fit_b"] == "2" and rows(out)["p0"]["reply_a"] == "ours 0."
    found = about(out)
    assert (found["num_pairs"], found["flip_share"], found["first_share"]) == (4, 0.0, 0.5)
    assert found["unreadable"] == found["unanswered"] == [] and len(stub.requests) == 8 + 8
    assert not any(name in str(body) for _, _, body in stub.requests for name in ("system_a", "report"))
    judge(key, stub)
    assert len(stub.requests) == 16, "nothing is asked twice"
    written = "".join(path.read_text("utf-8-sig") for path in key.parent.glob("gpt*")) + capsys.readouterr().out
    assert KEY not in written


def test_a_verdict_that_flips_with_the_order_is_a_tie_and_the_bias_is_told(key, stub, capsys):
    stub.say = first
    out = judge(key, stub)
    assert {row["choice"] for row in rows(out).values()} == {"tie"}
    assert about(out)["flips"] == ["p0", "p1", "p2", "p3"] and about(out)["first_share"] == 1.0
    assert "4 flip with the order (share 1.000)" in capsys.readouterr().out


def test_a_tie_in_one_order_alone_is_a_tie_and_no_flip(key, stub):
    asked = []

    def say(body):
        asked.append(body)
        return "Verdict: A" if len(asked) % 2 else "Verdict: tie"

    stub.say = say
    found = about(judge(key, stub))
    assert found["tie_in_one_order"] == ["p0", "p1", "p2", "p3"] and found["flips"] == [] and found["first_share"] == 1


def test_down_half_way_what_came_is_on_the_sheet_and_the_next_run_goes_on(key, stub, capsys):
    stub.say = prefer("ours")
    stub.misbehave = lambda number: (500, {}, f"broken {KEY}") if number > 5 else None
    with pytest.raises(EndpointError, match=r"status 500 after 2 tries: broken \*\*\*; answers so far are kept"):
        judge(key, stub)
    out = key.with_name("gpt.csv")
    assert [row["choice"] for row in rows(out).values()] == ["A", "B", "", ""]
    assert "p2: B first" in about(out)["unanswered"] and "never came; run it again" in capsys.readouterr().out
    stub.requests.clear()
    stub.misbehave = lambda number: (429, {"Retry-After": "0"}, "") if number == 1 else None
    assert [row["choice"] for row in rows(judge(key, stub)).values()] == ["A", "B", "A", "B"]
    assert len(stub.requests) == 16 - 5 + 1


def test_nonsense_is_named_and_stays_blank(key, stub, capsys):
    """Of p1 the order with B first cannot be read: one readable order is no verdict. p2's ratings lack one."""

    def say(body):
        asked = body["messages"][-1]["content"]
        if "Reply A: ours 1." in asked:
            return "Both are a lovely 4."
        if "Reply: theirs 2." in asked:
            return GOOD_RATINGS.replace("fluency: 5", "fluency: 9")
        return prefer("ours")(body)

    stub.say = say
    out = judge(key, stub)
    assert about(out)["unreadable"] == ["p1: B first", "p2: fluency_b"] and about(out)["num_pairs"] == 3
    assert (rows(out)["p1"]["choice"], rows(out)["p2"]["fluency_b"], rows(out)["p2"]["fluency_a"]) == ("", "", "5")
    assert "2 answers hold no verdict or rating, and count nowhere: p1: B first" in capsys.readouterr().out
    rate.main(["read", "--key", str(key), str(out), "--out", str(key.with_name("found.json"))])
    found = json.loads(key.with_name("found.json").read_text())
    assert found["pairs"][0]["num_items"] == 3 and found["sheets"]["gpt"]["amiss"]["blank"] == ["p1"]
    assert found["ratings"]["fluency"]["systems"]["theirs"]["num_ratings"] == 3
    assert found["ratings"]["fluency"]["systems"]["theirs"]["mean"] == 5.0, "what is unreadable is no number"


def test_agreement_of_two_judges_by_hand(key, stub):
    """One says ours four times, the other three times and theirs once: 3/4 observed, 3/4 by chance, kappa 0."""
    stub.say = prefer("ours")
    one = judge(key, stub, "one")

    def say(body):
        return prefer("theirs" if "ours 3." in body["messages"][-1]["content"] else "ours")(body)

    stub.say = say
    other = judge(key, stub, "other")
    rate.main(["read", "--key", str(key), str(one), str(other), "--out", str(key.with_name("found.json"))])
    found = json.loads(key.with_name("found.json").read_text())
    assert found["kappa"] == pytest.approx(0) and found["pairs"][0]["win_rate"] == pytest.approx(7 / 8)
    # Pooled 7 and 1: differing 2 of its 8, by chance 2 * 7 / 7 = 2.
    assert found["alpha"] == pytest.approx(1 - 2 / (2 * 7 / 7))
    assert found["ratings"]["empathy"]["alpha"] is None, "all ratings are one and the same"


def test_a_local_model_is_asked_by_the_same_seam(key, make_llm, make_tokenizer, monkeypatch):
    from epo.preferences import local_chat

    chat = local_chat.LocalChat("tiny", make_llm(max_position_embeddings=4096), make_tokenizer(), 0.0, 4)
    monkeypatch.setattr(local_chat, "load_local_chat", lambda *arguments: chat)
    rate.main(["judge", "--key", str(key), "--out", str(key.with_name("tiny.csv")), "--local_model", "tiny"])
    found = about(key.with_name("tiny.csv"))
    assert found["judge"]["model"] == "tiny"
    assert len(found["unreadable"]) + len(found["unanswered"]) == 8 + 8 * 4 and found["flip_share"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "want either --endpoint URL with --model NAME, or --local_model FOLDER"),
        (["--endpoint", "http://127.0.0.1:1/v1"], "--endpoint and --model belong together"),
        (["--endpoint", "x", "--model", "m"], "--endpoint is 'x', want such as http"),
        (["--endpoint", "x", "--model", "m", "--tries", "0"], "--tries is 0, want 1 or more"),
    ],
)
def test_who_is_asked_must_be_said(options, message, key):
    with pytest.raises(ValueError, match=message):
        rate.main(["judge", "--key", str(key), "--out", str(key.with_name("a.csv")), *options])


def test_a_persons_sheet_is_not_written_over(key, stub):
    key.with_name("anna.csv").write_text("item,choice\n")
    with pytest.raises(ValueError, match=r"anna.csv: is there, and no judge's answers beside it"):
        judge(key, stub, "anna")
    with pytest.raises(ValueError, match="questions would have to be asked, --max_requests is 3"):
        judge(key, stub, max_requests=3)
    assert set(RATING_COLUMNS) <= rows(key.with_name("gpt.csv"))["p0"].keys()

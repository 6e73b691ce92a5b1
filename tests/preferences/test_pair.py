"""Pairs: the round trip, and every fault named with file and line."""

import json
from dataclasses import replace

import pytest

from epo.data.checking import check_file
from epo.data.dialogue import DataError, Dialogue, Turn, write_dialogues
from epo.data.findings import CollectFaults, StopAtFault
from epo.data.replies import reply_at
from epo.preferences.gold import collect_gold, forbidden_emotions
from epo.preferences.pair import PreferencePair, is_same_text, read_pairs, write_pairs
from epo.preferences.pair_check import check_pairs

TALK = Dialogue(
    "d1",
    (
        Turn("user", "The train left.", "sad"),
        Turn("assistant", "I am sorry to hear it.", "sad"),
        Turn("assistant", "Take the next one.", "neutral"),
        Turn("user", "It is late too!", "angry"),
        Turn("assistant", "Let us see.", "neutral"),
    ),
    split="train",
)


def made(turn, chosen, chosen_emotion, rejected, rejected_emotion, *rest):
    """Return a pair in the place of a turn of TALK."""
    said = replace(reply_at(TALK, turn), text=chosen, emotion=chosen_emotion)
    return PreferencePair(said, rejected, rejected_emotion, *rest)


ROW = {
    "dialogue_id": "d1",
    "turn": 1,
    "chosen": "I am sorry to hear it.",
    "chosen_emotion": "sad",
    "rejected": "Hooray!",
    "rejected_emotion": "happy",
    "source": "rewrite",
    "scores": {"similarity": 0.0},
}
PAIR = made(1, "I am sorry to hear it.", "sad", "Hooray!", "happy", "rewrite", {"similarity": 0.0})


def write(tmp_path, **changes):
    path = tmp_path / "pairs.jsonl"
    row = {key: value for key, value in {**ROW, **changes}.items() if value is not ...}
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(row) + "\n")
    return path


def test_round_trip_keeps_every_field(tmp_path):
    pairs = [PAIR, made(4, "Let us see.", "neutral", "Não!", "angry", "llm")]
    assert write_pairs(tmp_path / "new" / "pairs.jsonl", pairs) == 2
    assert read_pairs(tmp_path / "new" / "pairs.jsonl", {"d1": TALK}) == pairs
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pairs.jsonl"]


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [PAIR])

    def broken():
        yield PAIR
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_pairs(path, broken())
    assert len(read_pairs(path, {"d1": TALK})) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialogue_id": "d9"}, "dialogue 'd9' is not in the dialogues file"),
        ({"turn": 0}, "turn 0 of dialogue 'd1' is not an assistant turn that follows a user turn"),
        ({"turn": 2}, "turn 2 of dialogue 'd1' is not"),
        ({"turn": 3}, "turn 3 of dialogue 'd1' is not"),
        ({"turn": 5}, "turn 5 .* there are 5"),
        ({"turn": -1}, "turn -1 of"),
        ({"turn": True}, "turn True of"),
        ({"turn": "1"}, "turn '1' of"),
        ({"rejected": "  "}, "'rejected' is empty"),
        ({"chosen": ""}, "'chosen' is empty"),
        ({"rejected": "i am SORRY to  hear it. "}, "'chosen' and 'rejected' are the same text"),
        ({"rejected_emotion": "joy"}, "'rejected_emotion': unknown emotion 'joy'"),
        ({"chosen_emotion": 3}, "'chosen_emotion': must be a string"),
        ({"source": 3}, "'source' must be a non-empty string"),
        ({"scores": {"similarity": "high"}}, "score 'similarity' is 'high'"),
        ({"scores": {"similarity": float("nan")}}, "score 'similarity' is nan"),
        ({"rejected": ...}, "'rejected' missing"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"chosen": "(Sad) I am sorry."}, "'chosen' begins with '\\(Sad\\)', which is put before the words once more"),
    ],
)
def test_every_fault_names_file_and_line(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"pairs\.jsonl:2: .*{message}"):
        read_pairs(write(tmp_path, **changes), {"d1": TALK})


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3"])
def test_lines_that_are_no_objects(tmp_path, content):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content + b"\n")
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: (not JSON|want a JSON object|is UTF-16)"):
        read_pairs(path, {})


def test_a_label_in_the_words_is_left_out_where_faults_are_collected(tmp_path):
    """It would be learnt twice; of people's rankings, which name no emotions, it is part of the reply."""
    findings = CollectFaults()
    (pair,) = read_pairs(write_rows(tmp_path, human(chosen="(sad) Oh.")), {"d1": TALK})
    assert pair.chosen == "(sad) Oh."
    emotions = {"chosen_emotion": "sad", "rejected_emotion": "happy"}
    rows = [human(chosen="(sad) Oh.", **emotions), human(chosen="(sad) Oh.", rejected="(happy) oh.", **emotions)]
    (pair,) = read_pairs(write_rows(tmp_path, *rows), {"d1": TALK}, findings)
    assert (pair.chosen, pair.rejected) == ("Oh.", "Hooray!")
    assert [fault.split("; ")[1] for fault in findings.faults] == ["take it out of the words"] * 3 + ["drop the pair"]


def test_missing_and_empty_files_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no such file; write it with"):
        read_pairs(tmp_path / "none.jsonl", {})
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="holds no pair; see report.json"):
        read_pairs(tmp_path / "empty.jsonl", {})


def human(**changes):
    row = {"dialogue_id": "d1", "turn": 1, "chosen": "I am sorry.", "rejected": "Hooray!"} | changes
    return {key: value for key, value in row.items() if value is not ...}


def write_rows(tmp_path, *rows):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_people_name_no_emotions(tmp_path):
    """The chosen reply need not be the corpus's own, and emotions, source and scores may be absent or null."""
    path = write_rows(tmp_path, human(), human(rejected="Ha!", chosen_emotion=None, scores=None, source="raters"))
    pairs = read_pairs(path, {"d1": TALK})
    assert pairs == [
        made(1, "I am sorry.", None, "Hooray!", None, "unnamed"),
        made(1, "I am sorry.", None, "Ha!", None, "raters"),
    ]
    write_pairs(tmp_path / "again.jsonl", pairs)
    assert read_pairs(tmp_path / "again.jsonl", {"d1": TALK}) == pairs
    assert "emotion" not in (tmp_path / "again.jsonl").read_text()


def test_what_is_odd_about_pairs_is_noted(tmp_path):
    first, opposite = human(), human(chosen="hooray! ", rejected="I am sorry.")
    path = write_rows(
        tmp_path, first, first | {"chosen": "I AM  sorry."}, opposite, human(turn=4, chosen_emotion="sad")
    )
    findings = StopAtFault()
    assert len(read_pairs(path, {"d1": TALK}, findings)) == 4
    assert findings.notes == {
        "pair that comes twice": 1,
        "pair that is also ranked the other way round": 1,
        "pair with one emotion: both replies are learnt without their label": 1,
    }


def test_pairs_of_absent_dialogues_are_left_out_unless_they_are_half(tmp_path):
    stranger = human(dialogue_id="d9")
    path = write_rows(tmp_path, stranger, human(), human(turn=4))
    findings = StopAtFault()
    assert len(read_pairs(path, {"d1": TALK}, findings)) == 2
    assert findings.notes == {"pair of a dialogue that is not there: left out": 1}
    path = write_rows(tmp_path, human(), stranger, human(turn=4), stranger)
    message = r"pairs\.jsonl:2: dialogue 'd9' is not in the dialogues file, as for 2 of 4 pairs; the pairs belong"
    with pytest.raises(DataError, match=message):
        read_pairs(path, {"d1": TALK})


def test_what_a_pair_can_do_without_is_left_out_where_faults_are_collected(tmp_path):
    scores = {"good": 0.5, "bad": "high", "big": 10**400}
    sound = human(chosen_emotion="joy", rejected_emotion="sad", scores=scores, mood=1, source=3)
    path = write_rows(tmp_path, sound, human(turn=2), human(chosen="\u200b"), human(rejected=...), human(turn=None))
    findings = CollectFaults()
    assert read_pairs(path, {"d1": TALK}, findings) == [
        made(1, "I am sorry.", None, "Hooray!", "sad", "unnamed", {"good": 0.5})
    ]
    assert [fault.removeprefix(f"{path}:")[:50] for fault in findings.faults] == [
        "1: unknown key 'mood'; known are chosen, chosen_em",
        "1: 'chosen_emotion': unknown emotion 'joy'; want o",
        "1: 'source' must be a non-empty string; write the ",
        "1: score 'bad' is 'high', want a finite number; co",
        "1: score 'big' is inf, want a finite number; corre",
        "2: turn 2 of dialogue 'd1' is not an assistant tur",
        "3: 'chosen' is empty; write the words or leave it ",
        "4: 'rejected' missing; see docs/preferences.md",
        "5: 'turn' missing; see docs/preferences.md",
    ]


@pytest.mark.parametrize("rejected", ["h\u200bo", " HO ", "\uff48o", "ho\u00ad", "h\u2060o"])
def test_replies_that_look_the_same_are_the_same(tmp_path, rejected):
    with pytest.raises(DataError, match=":1: 'chosen' and 'rejected' are the same text"):
        read_pairs(write_rows(tmp_path, human(chosen="ho", rejected=rejected)), {"d1": TALK})


def test_same_text_ignores_case_blanks_and_ink_only():
    assert is_same_text("A  b\n", "a B") and is_same_text("caf\u00e9", "cafe\u0301\u200b")
    assert not is_same_text("a b", "a b.")


def test_gold_replies_follow_a_user_and_have_an_emotion():
    assert [reply.turn for reply in collect_gold([TALK], "train", "all", False)] == [1, 4]
    assert [reply.turn for reply in collect_gold([TALK], "train", "last", False)] == [4]
    assert collect_gold([TALK], "test", "all", False) == []
    assert collect_gold([TALK], "train", "all", True) == []


def test_forbidden_emotions_are_the_replys_own_and_the_fitting_one():
    sad, angry = collect_gold([TALK], "train", "all", False)
    assert forbidden_emotions(sad) == {"sad"}
    assert forbidden_emotions(angry) == {"neutral"}
    careless = Dialogue("d2", (Turn("user", "Oh.", "sad"), Turn("assistant", "Yes.", "happy")), split="train")
    assert forbidden_emotions(collect_gold([careless], "train", "last", False)[0]) == {"happy", "sad"}


def test_check_lists_every_fault_of_pairs(tmp_path):
    write_dialogues(tmp_path / "dialogues.jsonl", [TALK])
    path = write_rows(tmp_path, human(turn=2), human(), human(), human(rejected=" "))
    result = check_file(tmp_path, decode=False)
    assert check_pairs(path, tmp_path, result) == 2
    assert [fault.removeprefix(str(path))[:10] for fault in result.faults] == [":1: turn 2", ":4: 'rejec"]
    assert result.notes == [f"{path}:3: as in {path}:2: pair that comes twice"]
    with pytest.raises(DataError) as stopped:
        read_pairs(path, {"d1": TALK})
    assert str(stopped.value) == result.faults[0]
    assert check_pairs(path, tmp_path, result) == 0 and "mend the faults of the dialogues first" in result.notes[-1]
    empty = check_file(tmp_path, decode=False)
    (tmp_path / "none.jsonl").touch()
    assert check_pairs(tmp_path / "none.jsonl", tmp_path, empty) == 0 and "holds no pair" in empty.faults[0]


# --- kinds ---


def test_a_kind_is_kept_and_one_that_is_not_said_is_not_written(tmp_path):
    pairs = [PAIR, replace(PAIR, rejected="I see.", rejected_emotion="neutral", kind="neutral")]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    first, second = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert "kind" not in json.loads(first) and json.loads(second)["kind"] == "neutral"
    assert read_pairs(tmp_path / "pairs.jsonl", {"d1": TALK}) == pairs
    assert [pair.known_kind for pair in pairs] == ["emotion", "neutral"]
    assert made(1, "I am sorry.", "sad", "Hooray!", None).known_kind == "ranking"


@pytest.mark.parametrize("kind", ["neutralised", 3, ["neutral"]])
def test_an_unknown_kind_is_a_fault_and_the_pair_can_do_without(tmp_path, kind):
    path = write(tmp_path, rejected="So what?", kind=kind)
    wanted = r"pairs.jsonl:2: 'kind' is .*, want one of emotion, intensity, contradiction, neutral, ranking"
    with pytest.raises(DataError, match=wanted):
        read_pairs(path, {"d1": TALK})
    findings = CollectFaults()
    assert [pair.kind for pair in read_pairs(path, {"d1": TALK}, findings)] == [None, None] and len(
        findings.faults
    ) == 1

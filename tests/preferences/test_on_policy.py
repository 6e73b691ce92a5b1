"""Pairs of a policy's own samples, by hand: which sample is chosen, which rejected, and what happens to the others."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from epo.asking.answer_cache import AnswerCache
from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, fitting_emotion
from epo.preferences import sides
from epo.preferences.builder import build_pairs
from epo.preferences.counter import Choice
from epo.preferences.sides import choose_sides
from epo.preferences.source import SourceContext, SourceError
from epo.preferences.sources import _policy_writer, on_policy
from epo.preferences.sources.on_policy import NO_MISTAKE, OnPolicySettings, OnPolicySource
from epo.preferences.sources.policy import PolicySettings
from epo.preferences.verification import CHECKS, Examiner, Thresholds

WORDS = dict(zip(("Grr", "Yuck", "Eek", "Yay", "So", "Alas", "Wow"), EMOTIONS, strict=True))


class FirstWord:
    """Reads the emotion of the first word, 0.7 sure of it, with "really" 0.9."""

    def read(self, gold, text):
        sure = 0.9 if "really" in text else 0.7
        found = np.full(len(EMOTIONS), (1 - sure) / (len(EMOTIONS) - 1))
        found[EMOTIONS.index(WORDS.get(text.split(",")[0].split(" ")[0], "neutral"))] = sure
        return found


def reply(text="So, I met Tom in Rome at 3 today.", emotion="neutral", index=0, split="train"):
    user = Turn("user", "What did you do with your morning, tell me?", "happy")
    return Reply(f"d{index}", 1, (), user, text, emotion, "en", split, facts=("Tom",))


def examiner(*gold, **limits):
    found = Examiner(Thresholds(**limits), FirstWord())
    found.prepare([(one, f"{word}, Tom.") for one in gold or [reply()] for word in WORDS])
    return found


def test_each_sample_takes_its_side():
    assert fitting_emotion("happy") == "happy"
    samples = {
        "(neutral) So, I met Tom in Rome at 3 today, yes.": sides.RIGHT,  # the judge is 0.7 sure
        "(neutral) So really, I met Tom in Rome at 3.": sides.RIGHT,  # 0.9
        "(neutral) So, I met someone in Rome at 3 today.": sides.LACKING,  # the fact is not told
        "(neutral) So really, I met Tom at 3 today.": sides.LACKING,  # a name is lost
        "(happy) Yay, I met Tom in Rome at 3 today.": sides.FITTING,  # the user is happy
        "(sad) Grr, I met Tom in Rome at 3 today.": sides.AT_ODDS,
        "Alas, I met Tom in Rome at 3 today.": sides.AT_ODDS,  # no label at all
        "(angry) Grr grr grr grr grr": sides.DEGENERATE,
        "(sad)": sides.DEGENERATE,
        "(sad) Alas, I met Tom in Rome at 3 today.": sides.WRONG,
        "(angry) Grr, I met Tom in Rome at 3.": sides.WRONG,
        "(angry) Grr, Tom.": sides.WRONG,  # what it lacks does not matter on this side
    }
    for sample, kind in samples.items():
        assert choose_sides(reply(), [sample], examiner()).found == {kind: 1}, sample
    found = choose_sides(reply(), [*samples, "(angry) Grr, Tom."], examiner())
    assert found.found == Counter(samples.values()) + Counter({sides.WRONG: 1})
    assert found.chosen == dataclasses.replace(reply(), text="So really, I met Tom in Rome at 3.")
    # Three samples are angry and one is sad; one angry one came twice.
    assert found.emotion == "angry" and found.rejected == ("Grr, I met Tom in Rome at 3.", "Grr, Tom.")
    assert choose_sides(reply(), list(samples), examiner(), may_choose=False).chosen == reply()


def test_without_a_right_sample_the_gold_reply_is_chosen_and_without_a_mistake_there_is_no_pair():
    wrong = ["(sad) Alas, Tom left.", "(angry) Grr, Tom left."]
    found = choose_sides(reply(), wrong, examiner())
    assert found.chosen == reply() and found.emotion == "sad", "of emotions as frequent the one that came first"
    assert choose_sides(reply(), ["(neutral) So, Tom."], examiner()).emotion is None


def test_what_is_chosen_passes_all_checks_but_those_that_ask_for_a_difference():
    assert [check.name for check in CHECKS if check.asks_difference] == [
        "is not the gold reply", "labels apart", "words apart in emotion", "changed", "counter emotion likelier",
    ]  # fmt: skip
    assert examiner().objection(reply(), reply().text) is None
    for text, reason in {
        "So, I met Tom in Rome at 3 and": "cut off at the end",
        "So, I met Tom and Ann in Rome at 3 today.": "names or numbers are added",
        "(sad) So, I met Tom in Rome at 3 today.": "talks about the task",
        "So, Tom": "length too different",
    }.items():
        assert examiner().objection(reply(), text) == reason


class Scripted:
    """Stands for the writer: what is said of each dialogue, over and over."""

    def __init__(self, said):
        self._said = said

    def write(self, asked, label):
        assert [one.number for one in asked[:2]] == [1, 2] and {one.emotion for one in asked} == {None}
        return [self._said[one.reply.dialogue_id][one.number - 1] for one in asked]


def build(said, gold, marginals="free"):
    judge = examiner(*gold)
    source = OnPolicySource(Scripted(said), judge, num_samples=2, may_choose=True)
    return build_pairs(gold, source, Choice("inappropriate", marginals), judge), source.count_samples()


RIGHT = "(neutral) So really, I met Tom in Rome at 3."
SAD, ANGRY = "(sad) Alas, I met Tom in Rome at 3.", "(angry) Grr, I met Tom in Rome at 3."


def test_pairs_are_built_of_samples():
    gold = [reply(index=0), reply(index=1), reply(index=2), reply(index=3)]
    said = {"d0": (RIGHT, ANGRY), "d1": (SAD, SAD), "d2": (RIGHT, RIGHT), "d3": ("(fearful) Eek", "(fearful) Eek")}
    found, counts = build(said, gold)
    assert [(p.dialogue_id, p.chosen, p.rejected, p.rejected_emotion, p.source) for p in found.pairs] == [
        ("d0", RIGHT.split(") ")[1], ANGRY.split(") ")[1], "angry", "on_policy"),
        ("d1", gold[1].text, SAD.split(") ")[1], "sad", "on_policy"),
    ]
    assert {p.chosen_emotion for p in found.pairs} == {"neutral"} and {p.known_kind for p in found.pairs} == {"emotion"}
    # The judge gives sad 0.7 in the rejected reply, and in the gold one a sixth of the other 0.3.
    assert found.pairs[1].scores["emotion_shift"] == pytest.approx(0.7 - 0.3 / 6)
    assert found.dropped == {NO_MISTAKE: 1, "no candidate accepted: length too different": 1}
    assert found.left_out_for_equal == 0 and found.tally.asked == 3
    assert counts == {"train": {"samples": 8, "right": 3 / 8, "found": {sides.WRONG: 5, sides.RIGHT: 3}}}


def test_the_emotions_of_samples_are_balanced():
    """Nobody drew them, so they are balanced even where every candidate was accepted: one angry against one neutral."""
    gold = [reply(index=i) for i in range(3)] + [reply("Grr, I met Tom in Rome at 3.", "angry", 3)]
    said = {f"d{i}": (ANGRY, ANGRY) for i in range(3)} | {"d3": (RIGHT, RIGHT)}
    found, _ = build(said, gold, "equal")
    assert sorted((p.chosen_emotion, p.rejected_emotion) for p in found.pairs) == [
        ("angry", "neutral"), ("neutral", "angry"),
    ]  # fmt: skip
    assert len(build(said, gold, "free")[0].pairs) == 4


def test_samples_are_kept_and_no_two_batches_are_the_same(tmp_path):
    gold, calls = [reply(index=0), reply(index=1), reply(index=2)], []

    def write(replies, emotions, seed):
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [(SAD, ANGRY, RIGHT)[(seed + place) % 3] for place in range(len(replies))]

    def sample(name="killed.jsonl", num_samples=4):
        judge = examiner(*gold)
        writer = _policy_writer.PolicyWriter(write, "model", AnswerCache(tmp_path / name), batch_size=2, seed=0)
        source = OnPolicySource(writer, judge, num_samples, may_choose=True)
        return source.write_chosen(gold), source.propose(gold, []), source.count_samples()

    with pytest.raises(KeyboardInterrupt):
        sample()
    resumed = sample()
    assert len(calls) == 3 + 4, "twelve samples by twos, of which the first two batches were there"
    assert len({*calls[:2], *calls[3:]}) == 6, "four samples of one reply are two batches, each drawn anew"
    assert sample("whole.jsonl") == resumed
    assert sample("fewer.jsonl", num_samples=2)[2]["train"]["samples"] == 6


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "source on_policy wants policy_model, a folder written by launch/sft.py"),
        ({"policy_model": "m", "policy_samples": 0}, "policy_samples is 0, want 1 or more"),
        (
            {"policy_model": "m", "policy_temperature": 0.0},
            "policy_temperature is 0.0, at which every sample is the same",
        ),
    ],
)
def test_settings_that_cannot_be(keys, message):
    with pytest.raises(SourceError, match=message):
        OnPolicySettings(**keys)


def test_its_writer_is_that_of_source_policy(tmp_path, monkeypatch):
    """The keys they share do the same in both: tests/preferences/test_preference_keys.py looks at `policy`."""
    loaded = []
    monkeypatch.setattr(_policy_writer, "_load", loaded.append)
    shared = {field.name for field in dataclasses.fields(_policy_writer.WriterSettings)}
    assert {field.name for field in dataclasses.fields(PolicySettings)} == shared
    assert {field.name for field in dataclasses.fields(OnPolicySettings)} - shared == {"policy_samples", "chosen_reply"}
    settings = OnPolicySettings(policy_model="m", policy_samples=3, chosen_reply="gold")
    source = on_policy.SOURCE.make(settings, SourceContext(0, tmp_path, examiner()))
    assert loaded == [settings] and (source._num_samples, source._may_choose) == (3, False)

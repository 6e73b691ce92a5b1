"""Contradictions: the gold reply with what its clip shows, against the same with what it does not show."""

import json
from collections import Counter

import pytest
import yaml

import launch.preferences as stage
from epo.data.describers.told_movements import contradict, num_opposed, told_movements
from epo.data.dialogue import Dialogue, Turn, write_dialogues
from epo.data.replies import replies_of
from epo.preferences.builder import build_pairs
from epo.preferences.classifier import CorpusReader
from epo.preferences.source import SourceContext
from epo.preferences.sources.contradict import SOURCE, ContradictSettings
from epo.preferences.verification import Examiner, Thresholds

UP, DOWN, NOD = told_movements({"brow_lift": 0.1}), told_movements({"brow_lift": -0.2}), told_movements({"nod": -0.1})


def test_movements_are_told_with_their_direction():
    evidence = {"brow_lift": -0.1, "nod": -0.07, "AU12": 1.4, "mouth_open": 0.0, "onset_s": 0.2, "fade": 0.1}
    assert told_movements(evidence) == {("brow_lift", -1), ("nod", 0), ("AU12", 1)}
    assert told_movements({"rise_s": 0.3}) == frozenset()


@pytest.mark.parametrize(
    ("first", "second", "wanted", "opposed"),
    [
        (UP, DOWN, True, 1),  # the same goes the other way
        (UP, UP, False, 0),
        (UP, NOD, True, 0),  # nothing of it was told
        (UP | NOD, DOWN | NOD, True, 1),  # one thing is false, whatever else is true
        (UP | NOD, NOD, False, 0),  # less is told, nothing false
        (NOD, told_movements({"nod": 0.1}), False, 0),  # its sign says nothing
        (UP, frozenset(), False, 0),
    ],
)
def test_what_contradicts(first, second, wanted, opposed):
    assert contradict(first, second) is contradict(second, first) is wanted
    assert num_opposed(first, second) == num_opposed(second, first) == opposed


def talk(number, emotion="sad", split="train"):
    turns = (Turn("user", f"About {number}.", "sad"), Turn("assistant", f"I hear of number {number}.", emotion))
    return Dialogue(f"d{number}", turns, split=split)


def chosen_of(found):
    return [pair.chosen for pair in found.pairs]


def rejected_of(found):
    return [pair.rejected for pair in found.pairs]


def told_in(text):
    return text.split(": ")[1]


@pytest.fixture
def build(tmp_path):
    """Build pairs of talks from (description, evidence) by their numbers."""

    def build(talks, told, seed=0, **keys):
        path = tmp_path / "descriptions.jsonl"
        lines = [
            {"dialogue_id": f"d{n}", "turn": 0, "description": text, "evidence": evidence}
            for n, (text, evidence) in told.items()
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        gold = replies_of(talks, "last")
        examiner = Examiner(Thresholds(), CorpusReader(gold), None, False, True)
        context = SourceContext(seed, tmp_path, examiner, None, talks)
        source = SOURCE.make(ContradictSettings(descriptions=str(path), **keys), context)
        return build_pairs(gold, source, examiner=examiner, kind="contradiction")

    return build


def test_pairs_differ_in_the_sentence_alone_and_each_is_rejected_as_often_as_chosen(build):
    """Four sad replies, two with brows up and two down; another emotion's alone; one without numbers, one with none."""
    told = {
        0: ("Brows up.", {"brow_lift": 0.1}),
        1: ("Brows down.", {"brow_lift": -0.1}),
        2: ("The brows rise.", {"brow_lift": 0.1}),
        3: ("The brows sink.", {"brow_lift": -0.1}),
        4: ("The brows go down.", {"brow_lift": -0.1}),
        5: ("Hardly a thing.", {}),
    }
    talks = [*(talk(n) for n in range(4)), talk(4, "happy"), talk(5), talk(6)]
    found = build(talks, told)
    assert [pair.dialogue_id for pair in found.pairs] == ["d0", "d1", "d2", "d3"]
    for number, pair in enumerate(found.pairs):
        start = f"I hear of number {number}. I can see it: "
        assert pair.chosen == start + told[number][0] and pair.rejected.startswith(start)
        assert (pair.kind, pair.source, pair.chosen_emotion, pair.rejected_emotion) == (
            "contradiction", "contradict", "sad", "sad",
        )  # fmt: skip
    chosen, rejected = (Counter(told_in(text) for text in side) for side in (chosen_of(found), rejected_of(found)))
    assert chosen == rejected
    # Of two that contradict as much the one of like length is taken: "Brows up." against "Brows down.".
    assert [told_in(text) for text in rejected_of(found)] == [told[n][0] for n in (1, 0, 3, 2)]
    assert found.dropped == {
        "nothing is known of what its clip shows": 2,
        "no candidate: the source offered none": 1,
    }
    assert found.summary()["left_out_for_equal"] == 0 and found.summary()["total_variation"] == 0


def test_what_nothing_contradicts_is_left_out_on_both_sides(build):
    """Of brows up, up and down one of the first two has no partner; its own sentence is rejected nowhere either."""
    told = {n: (f"Brows {n}.", {"brow_lift": way}) for n, way in enumerate((0.1, 0.1, -0.1))}
    found = build([talk(n) for n in range(3)], told, remark="Seen: {}")
    chosen, rejected = ([told_in(text) for text in side] for side in (chosen_of(found), rejected_of(found)))
    assert len(chosen) == 2 and "Brows 2." in chosen and rejected == chosen[::-1]


def test_no_description_is_told_twice_whatever_the_seed(build):
    told = {n: (f"Face {n} moves.", {"brow_lift": (-1) ** n * 0.1, "nod": 0.1 * (n % 3)}) for n in range(20)}
    talks = [talk(n, ("sad", "happy")[n % 4 > 1]) for n in range(20)]
    dealt = {}
    for seed in (0, 1):
        found = build(talks, told, seed)
        dealt[seed] = rejected_of(found)
        assert len(set(dealt[seed])) == len(found.pairs) == 20
    assert dealt[0] == rejected_of(build(talks, told, 0))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "emotion"}, "kind is emotion and source contradict: .* set both or neither"),
        ({"source": "retrieve"}, "kind is contradiction and source retrieve: "),
        ({"marginals": "equal"}, "keys marginals and max_dropped_share would do nothing: both replies"),
        ({"max_dropped_share": 0.1}, "keys marginals and max_dropped_share would do nothing"),
        ({"counter_emotion": "random"}, "kind contradiction rejects the chosen reply's emotion; leave it out"),
        ({"descriptions": ""}, "source contradict wants descriptions: FILE"),
        ({"remark": "I see it."}, r"remark is 'I see it.', want a text with \{\} once"),
        ({"remark": "{} and {}"}, r"want a text with \{\} once"),
        ({"descriptions": "gone.jsonl"}, "gone.jsonl: no such file; "),
        ({}, r"told.jsonl holds no evidence, so nobody knows what contradicts a clip; want .* builtin or au"),
    ],
)
def test_what_cannot_contradict_is_refused(tmp_path, keys, message):
    write_dialogues(tmp_path / "dialogues.jsonl", [talk(n) for n in range(4)])
    (tmp_path / "told.jsonl").write_text('{"dialogue_id": "d0", "turn": 0, "description": "The brows rise."}\n')
    own = {
        "data": str(tmp_path / "dialogues.jsonl"), "output_dir": str(tmp_path / "out"), "source": "contradict",
        "kind": "contradiction", "descriptions": str(tmp_path / "told.jsonl"),
    }  # fmt: skip
    if keys.get("source") == "retrieve":
        del own["descriptions"]
    (tmp_path / "preferences.yaml").write_text(yaml.safe_dump(own | keys))
    with pytest.raises(ValueError, match=message):
        stage.run(["--config", str(tmp_path / "preferences.yaml")])

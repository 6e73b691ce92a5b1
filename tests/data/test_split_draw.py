"""The draw of splits: nothing crosses, what was given stays, small corpora get all three, labels spread."""

import json
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo.data.dialogue import SPLITS, DataError, Dialogue, Turn
from epo.data.split_draw import SplitDraw, find_same_words, words_digest
from epo.data.splits import Splits, SplitShares, read_splits
from epo.emotions import EMOTIONS


def make(name, group=None, split=None, emotions=("sad", "neutral"), words=None):
    speakers = ("user", "assistant")
    text = name if words is None else words
    turns = (Turn(speakers[i % 2], f"{text} {i}", emotion) for i, emotion in enumerate(emotions))
    return Dialogue(name, tuple(turns), split=split, group=group)


def draw(dialogues, shares, earlier=None):
    draw = SplitDraw(shares, earlier)
    for dialogue in dialogues:
        draw.add(dialogue)
    return draw.decide()


def given_to(dialogues, splits):
    return {d.id: splits.of(d.id, d.group, d.split) for d in dialogues}


def count(dialogues, splits):
    counts = Counter(given_to(dialogues, splits).values())
    return [counts[split] for split in SPLITS]


emotions = st.sampled_from(EMOTIONS)
corpora = st.lists(
    st.tuples(
        st.none() | st.sampled_from("abcdefgh"),
        st.sampled_from((None, None, None, *SPLITS)),
        st.lists(st.none() | emotions, min_size=1, max_size=4),
    ),
    max_size=40,
).map(lambda rows: [make(f"d{i}", *row) for i, row in enumerate(rows)])
asked = st.builds(
    SplitShares,
    validation=st.sampled_from((0, 0.1, 0.3)),
    test=st.sampled_from((0, 0.1, 0.2)),
    seed=st.integers(0, 3),
    by=st.sampled_from(("group", "dialogue")),
    min_dialogues=st.integers(0, 3),
)


@given(corpora, asked)
@settings(deadline=None)
def test_no_group_crosses_and_the_corpus_s_own_splits_are_kept(dialogues, shares):
    splits = draw(dialogues, shares)
    found = given_to(dialogues, splits)
    for dialogue in dialogues:
        if dialogue.split is not None:
            assert found[dialogue.id] == dialogue.split
    for group in {d.group for d in dialogues} - {None}:
        own = {d.split for d in dialogues if d.group == group} - {None}
        members = {found[d.id] for d in dialogues if d.group == group}
        if shares.by == "group" and len(own) < 2:
            assert len(members) == 1
            assert not own or members == own
        elif shares.by == "group":
            assert members == own  # those without a mark join the others
            assert any("more than one split by the corpus's own marks" in note for note in splits.notes)


@given(corpora, asked, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_dialogues_does_not_matter(dialogues, shares, chance):
    found = draw(dialogues, shares)
    chance.shuffle(dialogues)
    again = draw(dialogues, shares)
    assert (again.groups, again.dialogues) == (found.groups, found.dialogues)


@given(corpora, corpora, asked)
@settings(deadline=None)
def test_a_corpus_that_grows_keeps_its_splits(dialogues, more, shares):
    """Of marked groups and dialogues too, as long as their marks stay as they were."""
    before = draw(dialogues, shares)
    own = {d.group for d in dialogues + more if d.split is not None} if shares.by == "group" else set()
    more = [make(f"new {d.id}", d.group, None if d.group in own else d.split, ("sad",)) for d in more]
    after = draw(more + dialogues, shares, before)
    was, now = given_to(dialogues, before), given_to(dialogues, after)
    assert {name: now[name] for name in was} == was


@given(st.integers(0, 30), asked)
@settings(deadline=None)
def test_minimums_are_met_where_they_can_be_and_said_where_not(size, shares):
    dialogues = [make(f"d{i}") for i in range(size)]
    splits = draw(dialogues, shares)
    train, validation, test = count(dialogues, splits)
    least, wanted = shares.min_dialogues, (shares.validation > 0) + (shares.test > 0)
    met = (validation >= least or not shares.validation) and (test >= least or not shares.test)
    if size >= max(1, least) + wanted * least:
        assert met and train >= least
    assert met == (not splits.notes)
    assert train >= 1 or size == 0


@given(st.integers(1, 400), asked)
@settings(deadline=None, max_examples=30)
def test_shares_come_out_to_a_few_dialogues(size, shares):
    chance = random.Random(size)
    dialogues = [make(f"d{i}", emotions=chance.choices(EMOTIONS, k=4)) for i in range(size)]
    _, validation, test = count(dialogues, draw(dialogues, shares))
    for number, share in ((validation, shares.validation), (test, shares.test)):
        assert abs(number - share * size) <= max(4, shares.min_dialogues) and (share > 0 or number == 0)


@pytest.mark.parametrize("seed", range(5))
def test_five_dialogues_are_three_one_and_one(seed):
    dialogues = [make(f"d{i}") for i in range(5)]
    assert count(dialogues, draw(dialogues, SplitShares(seed=seed))) == [3, 1, 1]


@pytest.mark.parametrize(
    ("size", "least", "counts", "notes"),
    [(1, 1, [1, 0, 0], 2), (2, 1, [1, 0, 1], 1), (3, 1, [1, 1, 1], 0), (5, 2, [2, 1, 2], 1), (6, 2, [2, 2, 2], 0)],
)
def test_a_corpus_too_small_for_all_gets_a_test_split_first_and_says_so(size, least, counts, notes):
    dialogues = [make(f"d{i}") for i in range(size)]
    splits = draw(dialogues, SplitShares(min_dialogues=least))
    assert count(dialogues, splits) == counts
    assert len(splits.notes) == notes
    if size == 2:
        assert splits.notes == (
            "validation has 0 dialogues where min_split asks for 1: there are 2 dialogues, and train keeps as many",
        )


@pytest.mark.parametrize(
    ("sizes", "least", "held_out"),
    [
        ((20, 3, 4, 6), 3, [4, 3]),  # test takes the 3, validation the smallest of the larger
        ((20, 1, 1, 1, 1), 2, [2, 2]),  # rather several small ones than a large one
        ((5, 5, 5), 5, [5, 5]),
        ((9, 9), 5, [0, 9]),  # train keeps the last that it can spare
    ],
)
def test_a_minimum_takes_the_groups_that_fit_it_best(sizes, least, held_out):
    dialogues = [make(f"{g} {i}", group=str(g)) for g, size in enumerate(sizes) for i in range(size)]
    shares = SplitShares(validation=0.001, test=0.001, min_dialogues=least)
    assert count(dialogues, draw(dialogues, shares))[1:] == held_out


def test_a_large_minimum_is_quick():
    dialogues = [make(f"d{i}", emotions=()) for i in range(10_000)]
    shares = SplitShares(validation=0.001, test=0.001, min_dialogues=3000)
    start = time.process_time()
    assert count(dialogues, draw(dialogues, shares)) == [4000, 3000, 3000]
    assert time.process_time() - start < 5  # a fifth of that was seen


def test_one_speaker_cannot_be_split():
    dialogues = [make(f"d{i}", group="Ann") for i in range(50)]
    splits = draw(dialogues, SplitShares())
    assert count(dialogues, splits) == [50, 0, 0]
    assert splits.notes[0].startswith(
        "test has 0 dialogues where min_split asks for 1: there are 50 dialogues in 1 groups"
    )
    dialogues_alone = draw(dialogues, SplitShares(by="dialogue"))
    assert count(dialogues, dialogues_alone) == [40, 5, 5]


def test_ten_speakers_of_like_size_give_one_each():
    dialogues = [make(f"d{i}", group=f"speaker {i % 10}") for i in range(130)]
    splits = draw(dialogues, SplitShares())
    assert count(dialogues, splits) == [104, 13, 13]
    assert Counter(splits.groups.values()) == {"train": 8, "validation": 1, "test": 1}
    assert splits.dialogues == {}


def test_a_rare_label_is_in_all_splits():
    """Chance alone leaves 20 of 2,000 out of a test split of a tenth in 12 % of draws, and has 0 to 6 there."""
    for seed in range(4):
        dialogues = [make(f"d{i}", emotions=("disgust" if i % 100 == 0 else "neutral", "sad")) for i in range(2000)]
        found = given_to(dialogues, draw(dialogues, SplitShares(seed=seed)))
        rare = Counter(found[f"d{i}"] for i in range(0, 2000, 100))
        assert rare["test"] in (1, 2, 3) and rare["validation"] in (1, 2, 3)


def test_a_marked_dialogue_pulls_its_group_and_the_most_marks_win():
    dialogues = [make("a", "x", "test"), make("b", "x"), make("c", "y", "train"), make("d", "y", "train")]
    dialogues += [make("e", "y", "test"), make("f", "y"), make("g", "z", "validation"), make("h", "z", "train")]
    splits = draw([*dialogues, make("i", "z")], SplitShares())
    assert splits.groups == {"x": "test", "y": "train", "z": "train"}
    assert splits.notes[-1:] == (
        "2 groups are in more than one split by the corpus's own marks, which are kept: 'y', 'z'",
    )


def test_unmarked_dialogues_do_not_go_where_the_corpus_has_its_share():
    marked = [make(f"t{i}", split="test") for i in range(30)] + [make(f"r{i}", split="train") for i in range(60)]
    dialogues = marked + [make(f"n{i}") for i in range(10)]
    splits = draw(dialogues, SplitShares())
    assert count(dialogues, splits) == [62, 8, 30]


def test_the_record_keeps_what_was_given_only_to_those_who_ask_the_same(tmp_path):
    dialogues = [make(f"d{i}", None if i < 10 else f"g{i % 3}") for i in range(30)]
    shares = SplitShares(seed=1)
    splits = draw(dialogues, shares)
    path = tmp_path / "splits.json"
    splits.write(path)
    again = read_splits(path, shares)
    assert again is not None and (again.groups, again.dialogues) == (splits.groups, splits.dialogues)
    assert read_splits(path, SplitShares(seed=2)) is None
    assert read_splits(path, SplitShares(seed=1, test=0.3)) is None
    assert read_splits(tmp_path / "none.json", shares) is None
    grown = draw([*dialogues, make("new")], shares, again)
    assert grown.notes == ("splits kept from the import before; 1 drawn beside them",)
    assert json.loads(path.read_text())["by"] == "group"


@pytest.mark.parametrize("text", ["{", "[]", '{"groups": {"a": "tset"}, "dialogues": {}}', '{"groups": {}}', '"x"'])
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match="splits.json: .*delete it to draw"):
        read_splits(tmp_path / "splits.json", SplitShares())


def test_the_same_words_in_two_splits_are_counted():
    dialogues = [make("a", split="train", words="Hi  there"), make("b", split="test", words="hi There")]
    dialogues += [
        make("c", split="test", words="HI there"),
        make("d", split="validation"),
        make("e", split="validation"),
    ]
    assert draw(dialogues, SplitShares()).notes == ("2 test dialogues have the very words of a train dialogue",)
    assert find_same_words([(words_digest(make(d)), "train") for d in "aab"]) == []


def test_nothing_to_draw():
    assert draw([], SplitShares()) == Splits(
        SplitShares(),
        notes=tuple(
            f"{split} has 0 dialogues where min_split asks for 1: there are 0 dialogues, and train keeps as many"
            for split in ("test", "validation")
        ),
    )

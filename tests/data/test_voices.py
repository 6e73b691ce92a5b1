"""Voices shared out over the splits: nobody is in two, proportions and emotions as far as the speakers allow."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo.data.dialogue import SPLITS, Clip, DataError
from epo.data.voices import Voice, read_voices, share_out
from epo.emotions import EMOTIONS

ALL = {"train": 8, "validation": 1, "test": 1}


def voice(name, emotions, own=None, file="v", group=None):
    clips = {emotion: [Clip(Path(f"{name}-{emotion}.wav"))] for emotion in emotions}
    return Voice(name, name if group is None else group, Path(file), clips, {own} if own in (None, *SPLITS) else own)


def by_split(shared):
    return {split: sorted(name for name in shared if shared[name] == split) for split in SPLITS}


@pytest.mark.parametrize(
    ("count", "wanted", "sizes"),
    [
        (10, {"train": 8, "validation": 1, "test": 1}, [8, 1, 1]),
        (10, {"train": 900, "validation": 10, "test": 10}, [8, 1, 1]),  # at least one each
        (10, {"train": 50, "validation": 20, "test": 30}, [5, 2, 3]),
        (3, {"train": 900, "validation": 50, "test": 50}, [1, 1, 1]),
        (7, {"train": 3, "test": 1}, [5, 0, 2]),  # 5.25 and 1.75: the larger remainder
        (4, {"test": 5}, [0, 0, 4]),
    ],
)
def test_speakers_are_in_proportion_to_the_dialogues(count, wanted, sizes):
    shared = share_out([voice(f"s{i}", EMOTIONS) for i in range(count)], wanted, 0, "own")
    assert [len(names) for names in by_split(shared).values()] == sizes


def test_a_seed_fixes_the_draw_and_another_gives_another():
    voices = [voice(f"s{i}", EMOTIONS) for i in range(12)]
    draws = {seed: share_out(voices, ALL, seed, "own") for seed in range(5)}
    assert draws[3] == share_out(voices[::-1], ALL, 3, "own")
    assert len({str(by_split(shared)) for shared in draws.values()}) > 1


@pytest.mark.parametrize("seed", range(10))
def test_each_emotion_is_in_each_split_where_an_exchange_makes_it_so(seed):
    """Three of ten can be disgusted: one goes to each split, whatever the draw was."""
    voices = [voice(f"s{i}", ("sad", "disgust") if i < 3 else ("sad",)) for i in range(10)]
    shared = share_out(voices, ALL, seed, "own")
    assert [len(names) for names in by_split(shared).values()] == [8, 1, 1]
    assert {shared[f"s{i}"] for i in range(3)} == set(SPLITS)


@pytest.mark.parametrize("seed", range(10))
def test_a_held_out_split_gets_more_speakers_where_one_cannot_speak_all(seed):
    """Everyone has one emotion: a split with one speaker takes another one from train."""
    voices = [voice(f"s{i}", (("sad", "happy")[i % 2],)) for i in range(10)]
    shared = share_out(voices, ALL, seed, "own")
    for names in by_split(shared).values():
        assert {int(name[1:]) % 2 for name in names} == {0, 1}
    assert [len(names) for names in by_split(shared).values()] == [6, 2, 2]


def test_own_splits_are_kept_where_they_part_the_speakers():
    own = [voice("a", ["sad"], "test"), voice("b", ["sad"], "train"), voice("c", ["sad"], "validation")]
    assert share_out(own, ALL, 0, "own") == {"a": "test", "b": "train", "c": "validation"}
    draws = {str(by_split(share_out(own, ALL, seed, "drawn"))) for seed in range(20)}
    assert len(draws) > 1


@pytest.mark.parametrize("torn", [{"train", "test"}, {None}, {"train", None}])
def test_own_splits_that_tear_a_speaker_or_miss_one_are_drawn_anew(torn):
    """The whole corpus is, for half of a split's speakers would not be in proportion; another corpus keeps its own."""
    torn_corpus = [voice("a", ["sad"], torn), *(voice(f"b{i}", ["sad"], "test") for i in range(7))]
    other = [voice("c", ["sad"], "test", "other")]
    shared = share_out([*torn_corpus, *other], {"train": 6, "validation": 1, "test": 1}, 0, "own")
    assert shared["c"] == "test"
    assert [len(names) for names in by_split(shared).values()] == [6, 1, 2]


def test_who_is_in_two_corpora_is_one_group():
    voices = [voice("a1", ["sad"], "train", "one", "a"), voice("a2", ["sad"], "test", "two", "a")]
    voices += [voice(f"b{i}", ["sad"], None, "two") for i in range(3)]
    assert len(share_out(voices, ALL, 0, "own")) == 4


def test_too_few_speakers_are_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"^v: 2 speaker\(s\) for dialogues of 3 splits, or name more voices"):
        share_out([voice("a", ["sad"]), voice("b", ["sad"])], ALL, 0, "own")
    all_in_train = [voice(name, ["sad"], "train") for name in "abc"]
    with pytest.raises(DataError, match="no voice is left for validation, test; set voice_splits: drawn"):
        share_out(all_in_train, ALL, 0, "own")
    assert len(set(share_out(all_in_train, ALL, 0, "drawn").values())) == 3


def test_what_was_shared_out_before_is_kept_while_it_fits():
    voices = [voice(f"s{i}", EMOTIONS) for i in range(10)]
    before = share_out(voices, ALL, 0, "own")
    grown = {"train": 8, "validation": 10, "test": 10}
    assert share_out(voices, grown, 0, "own", before) == before != share_out(voices, grown, 0, "own")
    more = share_out([*voices, voice("new", EMOTIONS)], ALL, 0, "own", before)
    assert more.keys() == before.keys() | {"new"}
    only_train = dict.fromkeys(before, "train")
    assert set(share_out(voices, ALL, 0, "own", only_train).values()) == set(SPLITS)


speakers = st.lists(
    st.tuples(st.sets(st.sampled_from(EMOTIONS), min_size=1), st.sampled_from((None, None, *SPLITS))),
    min_size=3,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(speakers, st.tuples(*[st.integers(1, 30)] * 3), st.integers(0, 9))
def test_every_speaker_is_in_one_split_and_no_split_is_silent(rows, counts, seed):
    voices = [voice(f"s{i}", emotions, own) for i, (emotions, own) in enumerate(rows)]
    shared = share_out(voices, dict(zip(SPLITS, counts, strict=True)), seed, "drawn")
    assert shared.keys() == {v.name for v in voices}
    assert set(shared.values()) == set(SPLITS)
    have = {split: Counter(e for v in voices if shared[v.name] == split for e in v.clips) for split in SPLITS}
    for emotion in EMOTIONS:  # nobody who could be exchanged for their like is the only reason why a split lacks it
        for v in voices:
            for w in voices:
                first, second = shared[v.name], shared[w.name]
                if first != second and v.clips.keys() == w.clips.keys() | {emotion} and emotion not in w.clips:
                    assert have[second][emotion] > 0 or have[first][emotion] < 2


def write(folder, rows):
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"x")
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "dialogues.jsonl"


def turn(emotion="sad", name=None, clip=True, speaker="user"):
    row = {"speaker": speaker, "text": "So.", "emotion": emotion, "name": name}
    row["clip"] = {"audio": "a.wav", "start_s": 1.0, "end_s": 2.0} if clip else None
    return {key: value for key, value in row.items() if value is not None}


def test_voices_are_read_from_any_labelled_clip_by_group_and_name(tmp_path):
    rows = [
        {"id": "1", "group": "g", "split": "train", "turns": [turn(name="F"), turn("happy", "M", speaker="assistant")]},
        {"id": "2", "group": "g", "split": "train", "turns": [turn(name="F"), turn(None, "F"), turn(clip=False)]},
        {"id": "3", "turns": [turn(name="F")]},
        {"id": "4", "turns": [turn(), turn("angry")]},
    ]
    voices = {v.name: v for v in read_voices(write(tmp_path / "speech", rows))}
    assert {name: (v.group, {e: len(c) for e, c in v.clips.items()}, v.own) for name, v in voices.items()} == {
        "speech/g/F": ("g", {"sad": 2}, {"train"}),
        "speech/g/M": ("g", {"happy": 1}, {"train"}),
        "speech/F": ("F", {"sad": 1}, {None}),
        "speech/4": ("4", {"sad": 1, "angry": 1}, {None}),
    }
    assert voices["speech/F"].clips["sad"][0].start_s == 1.0


def test_a_corpus_without_labelled_clips_is_no_corpus_of_voices(tmp_path):
    file = write(tmp_path / "text", [{"id": "1", "turns": [turn(clip=False), turn(None)]}])
    with pytest.raises(DataError, match="no turn has both an emotion and a clip"):
        read_voices(file)

"""What a row of the report changes: clip or memory, never the words or the gold reply."""

from dataclasses import replace

import numpy as np
import pytest

from epo.data.dialogue import Turn
from epo.evaluation import variants


@pytest.mark.parametrize("seed", range(5))
def test_shuffling_gives_everyone_someone_elses(examples, seed):
    shuffled = variants.clips_shuffled(examples, seed)
    own = [example.current.clip for example in examples]
    assert all(s.current.clip is not clip for s, clip in zip(shuffled, own, strict=True))
    assert sorted(map(repr, own)) == sorted(repr(s.current.clip) for s in shuffled)
    restored = [replace(s, current=replace(s.current, clip=c)) for s, c in zip(shuffled, own, strict=True)]
    assert restored == list(examples)
    histories = variants.memory_shuffled(examples, seed)
    assert [replace(h, history=e.history) for h, e in zip(histories, examples, strict=True)] == list(examples)
    assert {id(h.history) for h in histories} == {id(e.history) for e in examples}
    assert all(h.history is not e.history for h, e in zip(histories, examples, strict=True))


def test_halves_and_nothing(examples):
    heard, seen, neither = (v(examples, 0) for v in (variants.audio_only, variants.video_only, variants.no_clip))
    assert heard[0].current.clip.video is None and heard[0].current.clip.audio == examples[0].current.clip.audio
    assert seen[0].current.clip.audio is None and seen[0].current.clip.video == examples[0].current.clip.video
    # Dialogue 2 has no video, 3 no audio, 4 no clip: the half that is not there leaves none.
    assert [e.current.clip is None for e in heard[2:5]] == [False, True, True]
    assert [e.current.clip is None for e in seen[2:5]] == [True, False, True]
    assert all(e.current.clip is None for e in neither)
    assert variants.unchanged(examples, 0) == list(examples)


@pytest.mark.parametrize("sizes", [(3, 3), (1, 2, 3), (5, 4, 1), (4, 2, 1), (1, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_no_dialogue_gets_what_is_its_own(examples, sizes, seed):
    """Several replies of one dialogue: the clip or memory of another of its turns would not be somebody else's."""
    many = [
        replace(examples[0], dialogue_id=f"d{i}", turn=turn, history=(f"{i} {turn}",), current=Turn("user", f"d{i}"))
        for i, size in enumerate(sizes)
        for turn in range(size)
    ]
    shuffled = variants.memory_shuffled(many, seed)
    assert all(not s.history[0].startswith(e.dialogue_id[1:]) for s, e in zip(shuffled, many, strict=True))
    if 2 * max(sizes) <= sum(sizes):
        assert sorted(s.history for s in shuffled) == sorted(e.history for e in many)


def test_one_dialogue_alone_cannot_be_shuffled(examples):
    alone = [examples[0], replace(examples[0], turn=9)]
    for change in (variants.clips_shuffled, variants.memory_shuffled):
        assert not variants.can_vary(change, alone) and variants.can_vary(change, examples[:2])
        with pytest.raises(ValueError, match="takes two of them"):
            change(alone, 0)
    assert variants.can_vary(variants.no_clip, alone)


def test_one_reply_a_dialogue_is_shuffled_as_ever(examples):
    """Neighbours on one random cycle, so that reports of before stay comparable."""
    cycle = np.random.default_rng(3).permutation(len(examples))
    wanted = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    assert variants._others(examples, 3) == [wanted[i] for i in range(len(examples))]


def test_a_change_that_changes_nothing_is_told(examples):
    heard = [replace(e, current=replace(e.current, clip=None)) if i % 2 else e for i, e in enumerate(examples[:2])]
    voices = variants.audio_only(heard, 0)
    same = {name: variants.same_as(change, voices, 0) for name, change in variants.CHANGES.items()}
    assert same["audio only"] == "the test as it is" and same["video only"] == "no clip"
    assert same["clips shuffled"] is None and same["no clip"] is None and same["memory shuffled"] is None
    words = [replace(e, history=()) for e in variants.no_clip(examples[:2], 0)]
    assert {variants.same_as(change, words, 0) for change in variants.CHANGES.values()} == {"the test as it is"}
    assert all(variants.same_as(change, examples, 0) is None for change in variants.CHANGES.values())

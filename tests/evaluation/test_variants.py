"""What a row of the report changes: clip or memory, never the words or the gold reply."""

from dataclasses import replace

import pytest

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

"""Samples: two user turns with clips an emotion, of the test split where it has them."""

from pathlib import Path

from epo.data.dialogue import Clip, Dialogue, Turn
from epo.demo.samples import Previews, choose_samples

CLIP = Clip(audio=Path("a.wav"))


def dialogue(split, *turns):
    return Dialogue(f"{split} {len(turns)}", turns, split=split)


def test_the_test_split_comes_first_and_what_has_no_clip_or_emotion_is_left_out():
    def said(name, emotion="sad", clip=CLIP, speaker="user"):
        return Turn(speaker, name, emotion, clip)

    dialogues = [
        dialogue("train", said("a"), said("b"), said("c", "happy")),
        dialogue("test", said("d", clip=None), said("e", None), said("f", speaker="assistant"), said("g")),
    ]
    assert [turn.text for turn in choose_samples(dialogues)] == ["c", "g", "a"]  # in the order of the emotions
    assert [turn.text for turn in choose_samples(dialogues, each=1)] == ["c", "g"]
    assert choose_samples([]) == []


def test_no_more_is_read_than_is_needed():
    from epo.emotions import EMOTIONS

    def endless():
        yield dialogue("test", *(Turn("user", emotion, emotion, CLIP) for emotion in EMOTIONS))
        raise AssertionError("read on")

    assert [turn.text for turn in choose_samples(endless(), each=1)] == list(EMOTIONS)


def test_a_preview_is_what_browsers_play(dialogues, tmp_path):
    from epo.data.pages.preview import is_playable

    samples = choose_samples(dialogues)
    assert len(samples) > 4
    for number in (0, len(samples) - 1):
        (tmp_path / "clip.mp4").write_bytes(Previews(samples).make(number))
        assert is_playable(tmp_path / "clip.mp4")

"""A live talk: what a recording is to a model, whole and in part, replies in pieces, and how large the memory is."""

import numpy as np
import pytest
import soundfile

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Turn
from epo.data.media import MediaError
from epo.evaluation.emotion_course import emotion_course
from epo.evaluation.live_talk import LiveTalk, count_history_tokens
from epo.evaluation.recognition import emotion_shares
from epo.evaluation.reply_stream import ReplyStream
from epo.prompts.emotion_label import said_turn


@pytest.fixture
def talk(model_and_processor):
    return LiveTalk(*model_and_processor, lambda piece: None, max_new_tokens=6)


def both(corpus, number, tmp_path):
    """A recording with picture and sound in one file, as a camera gives."""
    from epo.data.media import MediaLimits, decode_clip
    from epo.data.pages.preview import encode_preview

    clip = Clip(corpus / f"{number}.wav", corpus / f"{number}.mp4")
    limits = MediaLimits(video_fps=8.0, max_frames=30)
    (tmp_path / "both.mp4").write_bytes(encode_preview(decode_clip(clip, limits), 16000, 8))
    return tmp_path / "both.mp4"


def test_a_recording_is_perceived_by_the_halves_it_has(talk, corpus, tmp_path):
    path = both(corpus, 0, tmp_path)
    perceived = talk.perceive_file(path)
    assert perceived.clip == Clip(path, path) and perceived.sense == "heard and seen" and perceived.notes == ()
    assert perceived.seconds == pytest.approx(1, abs=0.15)
    heard, seen = talk.perceive_file(corpus / "0.wav"), talk.perceive_file(corpus / "0.mp4")
    assert (heard.clip, heard.sense) == (Clip(audio=corpus / "0.wav"), "heard")
    assert (seen.clip, seen.sense) == (Clip(video=corpus / "0.mp4"), "seen")
    assert [set(one.shares) for one in (perceived, heard, seen)] == [
        {"fused", "audio", "video"}, {"fused", "audio"}, {"fused", "video"}
    ]  # fmt: skip
    for shares in perceived.shares.values():
        assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_read_is_refused_and_half_of_a_corpus_clip_is_too(talk, corpus, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(MediaError, match="broken.wav: is no media file"):
        talk.perceive_file(tmp_path / "broken.wav")
    with pytest.raises(MediaError, match="broken.wav: is no media file"):
        talk.perceive(Clip(tmp_path / "broken.wav", corpus / "0.mp4"))


def test_no_face_is_told_where_the_model_looks_for_one(make_model, corpus):
    pytest.importorskip("cv2", reason="faces are found by OpenCV: pip install 'epo-trainer[faces]'")
    model, processor = make_model(face_detector="haarcascade_frontalface_default")
    perceived = LiveTalk(model, processor, lambda piece: None).perceive_file(corpus / "0.mp4")
    assert perceived.notes == ("no face was found, so the whole picture is read",)


def test_each_point_of_a_course_is_the_clip_that_ended_there(model_and_processor, tmp_path):
    """Against recordings that really were cut there; the last is the whole one."""
    model, processor = model_and_processor
    sound = 0.3 * np.sin(np.linspace(0, 900, 16000) ** 1.3)
    soundfile.write(tmp_path / "whole.wav", sound, 16000)
    clip = Clip(audio=tmp_path / "whole.wav")
    course = list(emotion_course(model.extractor, clip, processor.clips, ClipCache(None), seconds=1.0))
    assert [moment.seconds for moment in course] == [0.25, 0.5, 0.75, 1.0]
    for moment in course:
        cut = tmp_path / f"{moment.seconds}.wav"
        soundfile.write(cut, sound[: int(16000 * moment.seconds)], 16000)
        expected = emotion_shares(model.extractor, [Clip(audio=cut)], processor.clips, ClipCache(None))
        for head in ("fused", "audio"):
            # 16-bit sound and a resampler's margin stand between them.
            np.testing.assert_allclose(moment.shares[head], expected[head][0], atol=2e-3)
    assert course[0].shares["fused"] != pytest.approx(course[-1].shares["fused"], abs=1e-6)


def test_a_course_of_a_span_keeps_to_it_and_a_short_one_has_one_point(model_and_processor, corpus):
    model, processor = model_and_processor
    span = Clip(audio=corpus / "0.wav", start_s=0.4, end_s=1.0)
    course = list(emotion_course(model.extractor, span, processor.clips, ClipCache(None), seconds=0.6))
    assert [moment.seconds for moment in course] == [0.3, 0.6]
    whole = emotion_shares(model.extractor, [span], processor.clips, ClipCache(None))["fused"][0]
    np.testing.assert_allclose(course[-1].shares["fused"], whole, atol=1e-6)
    short = list(emotion_course(model.extractor, span, processor.clips, ClipCache(None), seconds=0.1))
    assert len(short) == 1
    long = list(emotion_course(model.extractor, span, processor.clips, ClipCache(None), seconds=30.0, most=5))
    assert [moment.seconds for moment in long] == [6.0, 12.0, 18.0, 24.0, 30.0]


@pytest.mark.parametrize("prompt_parts", [None, ("system", "turns", "clip", "words")])
def test_the_memory_is_counted_in_vectors_and_in_the_text_it_stands_for(make_model, prompt_parts):
    model, processor = make_model(**({} if prompt_parts is None else {"prompt_parts": prompt_parts}))
    talk = LiveTalk(model, processor, lambda piece: None, max_new_tokens=6)
    assert talk.memory().turns == talk.memory().text_tokens == 0
    for number in (1, 2):
        talk.say("I met Mira at the lake.")
        size = talk.memory()
        assert size.turns == 2 * number
        assert (size.vectors, size.num_bytes) == ((None, None) if prompt_parts else (4 * number, 4 * number * 32 * 4))
    from epo.model.clip_reader import ClipFeatures

    as_text = processor.encode_prompt(talk.turns, Turn("user", "So?"), ClipFeatures(), use_memory=False)
    assert size.text_tokens == as_text.num_history_tokens  # whatever is asked next
    talk.reset()
    assert talk.turns == () and talk.memory().text_tokens == 0


def test_what_no_prompt_has_room_for_is_counted_all_the_same(make_model):
    _, processor = make_model(max_prompt_tokens=40)
    turn = Turn("user", "I met Mira at the lake."), Turn("assistant", "How was it?")
    once, often = (count_history_tokens(processor, turn * times) for times in (1, 10))
    assert 40 < often == 10 * once


def test_a_reply_that_broke_off_leaves_nothing_in_the_next(model_and_processor):
    model, processor = model_and_processor
    pieces = []
    stream = ReplyStream(processor.chat, pieces.append)
    ids = np.array(processor.chat.encode_reply("Hello there."))
    for part in (ids[:0], ids[:2]):
        stream.put(part)
    stream.restart()
    pieces.clear()
    talk = LiveTalk(model, processor, pieces.append, max_new_tokens=6)
    reply = talk.say("Hello.")
    assert said_turn("".join(pieces)) == reply

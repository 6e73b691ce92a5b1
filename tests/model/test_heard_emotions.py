"""What past turns were felt to be at inference: the extractor's reading for the user, their own for the assistant."""

from dataclasses import replace

import pytest
import torch

from compressor.streaming import MemoryStream
from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.data.selection import labelled_clips
from epo.emotions import EMOTIONS
from epo.evaluation.generate import answer
from epo.evaluation.recognition import predict_emotions
from epo.model.heard_emotions import HeardEmotions, heard_emotions_of
from epo.model.loading import load_model
from epo.training.collate import PromptBuilder


@pytest.fixture
def feeling(make_model):
    """A model whose memories carry emotions, and its processor."""
    model, processor = make_model(history_emotions=True)
    model.config.compressor_config.history_emotions = True
    return model, processor


@pytest.fixture
def history(dialogues):
    """A user turn with a clip, labelled with what the clip is not; one without; and a reply."""
    clip = labelled_clips(dialogues)[0][0]
    return (
        Turn("user", "I lost it.", "sad", clip, labelled_by="someone"),
        Turn("assistant", "Oh no.", "surprised"),
        Turn("user", "It rains.", "angry"),
        Turn("assistant", "So it does."),
    )


def lines(processor, turns):
    slots = processor.history_vocab_size
    return processor.history_tokenizer.decode([i for i in processor.encode_history(turns) if i < slots])


@pytest.mark.parametrize("wanted", ["happy", "disgust"])
def test_user_turns_have_what_is_heard_and_assistant_turns_their_own(feeling, history, clip_cache, wanted):
    model, processor = feeling
    with torch.no_grad():
        head = model.extractor.fused_head
        head.weight.zero_()
        head.bias.copy_(torch.nn.functional.one_hot(torch.tensor(EMOTIONS.index(wanted)), len(EMOTIONS)).float())
    told = HeardEmotions(model, processor, clip_cache)(history)
    assert [turn.emotion for turn in told] == [wanted, "surprised", None, None]
    assert told[0].labelled_by is None and told[0].clip == history[0].clip
    assert lines(processor, told) == (
        f"user ({wanted}): I lost it.assistant (surprised): Oh no.user: It rains.assistant: So it does."
    )


def test_it_is_what_the_evaluation_finds_and_each_clip_is_read_once(feeling, dialogues, clip_cache, monkeypatch):
    model, processor = feeling
    clips = [clip for clip, _ in labelled_clips(dialogues)][:4]
    turns = [Turn("user", f"Turn {i}.", "sad", clip) for i, clip in enumerate(clips)]
    hear = HeardEmotions(model.train(), processor, clip_cache)
    told = [turn.emotion for turn in hear(turns)]
    assert model.extractor.training
    assert told == predict_emotions(model.extractor, clips, processor.clips, clip_cache)["fused"]
    monkeypatch.setattr(model.extractor, "forward", None)
    assert [turn.emotion for turn in hear(turns[::-1])] == told[::-1]


def test_only_a_model_whose_memories_carry_emotions_hears_its_past(make_model, feeling, clip_cache):
    assert heard_emotions_of(*make_model(), clip_cache) is None
    assert heard_emotions_of(*feeling, clip_cache) is not None
    assert heard_emotions_of(None, object(), clip_cache) is None  # a family that knows nothing of it


def test_prompts_in_training_tell_gold_and_answers_what_is_heard(feeling, history, clip_cache):
    model, processor = feeling
    reply = Reply("d", 5, history, Turn("user", "And now?"), "", None)
    hear = heard_emotions_of(model, processor, clip_cache)
    gold, heard = PromptBuilder(processor, clip_cache)(reply), PromptBuilder(processor, clip_cache, hear)(reply)
    assert gold.history_ids == processor.encode_history(history)
    assert heard.history_ids == processor.encode_history(hear(history)) != gold.history_ids
    said = answer(model, processor, [reply], clip_cache, max_new_tokens=3)
    assert said == answer(model, processor, [replace(reply, history=hear(history))], clip_cache, max_new_tokens=3)


def test_without_the_switch_labels_change_nothing(model_and_processor, history):
    _, processor = model_and_processor
    bare = [replace(turn, emotion=None) for turn in history]
    assert processor.encode_history(history) == processor.encode_history(bare)


def test_turns_one_by_one_give_the_memories_of_the_whole_and_padding_changes_nothing(feeling, history):
    model, processor = feeling
    stream = MemoryStream(model.compressor)
    streamed = torch.cat([stream.append(processor.encode_history([turn])) for turn in history])
    ids = torch.tensor([processor.encode_history(history)])
    with torch.no_grad():
        whole = model.compressor(ids).vectors[0]
        padded = model.compressor(torch.cat([ids, torch.zeros(1, 9, dtype=torch.long)], dim=1)).vectors[0]
    torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[: len(whole)], whole, atol=1e-5, rtol=1e-4)


def test_a_saved_model_remembers_the_switch(feeling, history, tmp_path):
    model, processor = feeling
    model.config.low_rank = None
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, its_processor = load_model(str(tmp_path), "float32")
    assert its_processor.history_emotions and loaded.config.compressor_config.history_emotions
    assert its_processor.encode_history(history) == processor.encode_history(history)

"""The processor: prompts with placeholders that no truncation cuts and no user's text can forge."""

import numpy as np
import pytest
from transformers import AutoProcessor

from epo.data.dialogue import DataError, Turn
from epo.model.clip_reader import ClipFeatures
from epo.model.processing import EpoProcessor
from epo.prompts.emotion_label import reply_text, split_reply
from epo.prompts.marks import AUDIO_TOKEN, EMOTION_TOKEN, PLACEHOLDERS, VIDEO_TOKEN, add_placeholders

CLIP = ClipFeatures(np.zeros((16, 100), np.float32), np.zeros((4, 3, 16, 16), np.float32))
HISTORY = [Turn("user" if i % 2 == 0 else "assistant", f"Turn number {i} about the lake.") for i in range(6)]
CURRENT = Turn("user", "And what now?", "sad")


@pytest.fixture
def processor(model_and_processor):
    return model_and_processor[1]


def count(processor, ids, token):
    return ids.count(processor.tokenizer.convert_tokens_to_ids(token))


def test_a_prompt_reads_memory_then_clip_then_words(processor):
    prompt = processor.encode_prompt(HISTORY[:2], CURRENT, CLIP)
    memory, audio, video = "<|memory|>" * 4, AUDIO_TOKEN * 7, VIDEO_TOKEN * 4
    wanted = f"<|user|>{memory}({EMOTION_TOKEN}) {audio}{video}And what now?<|end|><|assistant|>"
    assert processor.tokenizer.decode(prompt.input_ids) == wanted
    assert prompt.num_history_tokens == 4
    words = processor.history_tokenizer.decode([i for i in prompt.history_ids if i < processor.history_vocab_size])
    assert words == "user: Turn number 0 about the lake.assistant: Turn number 1 about the lake."
    assert [i for i in prompt.history_ids if i >= 320] == [320, 321, 320, 321]


@pytest.mark.parametrize(
    ("clip", "audio", "video", "emotion"),
    [
        (ClipFeatures(CLIP.audio, None), 7, 0, 1),
        (ClipFeatures(None, CLIP.video), 0, 4, 1),
        (ClipFeatures(), 0, 0, 0),
    ],
)
def test_a_missing_half_has_no_tokens(processor, clip, audio, video, emotion):
    ids = processor.encode_prompt(HISTORY, CURRENT, clip).input_ids
    assert [count(processor, ids, t) for t in (AUDIO_TOKEN, VIDEO_TOKEN, EMOTION_TOKEN)] == [audio, video, emotion]


def test_a_system_prompt_comes_first(make_model):
    _, processor = make_model(system_prompt="Be kind.")
    text = processor.tokenizer.decode(processor.encode_prompt([], CURRENT, ClipFeatures()).input_ids)
    assert text == "<|system|>Be kind.<|end|><|user|>And what now?<|end|><|assistant|>"


def test_history_as_text_for_comparison(processor):
    prompt = processor.encode_prompt(HISTORY[:2], CURRENT, ClipFeatures(), use_memory=False)
    text = processor.tokenizer.decode(prompt.input_ids)
    assert text.startswith("<|user|>Turn number 0 about the lake.<|end|><|assistant|>Turn number 1")
    assert prompt.history_ids == []
    bare = processor.encode_prompt([], CURRENT, ClipFeatures())
    assert prompt.num_history_tokens == len(prompt.input_ids) - len(bare.input_ids) > 4


def test_the_oldest_turns_give_way_and_the_clip_stays_whole(make_model):
    _, roomy = make_model()
    bare = len(roomy.encode_prompt([], CURRENT, CLIP).input_ids)
    _, tight = make_model(max_prompt_tokens=bare + 5)
    prompt = tight.encode_prompt(HISTORY, CURRENT, CLIP)
    assert len(prompt.input_ids) == bare + 4  # room for two turns of two memory tokens, not for three
    kept = roomy.encode_prompt(HISTORY[-2:], CURRENT, CLIP)
    assert prompt.input_ids == kept.input_ids and prompt.history_ids == kept.history_ids
    assert count(tight, prompt.input_ids, AUDIO_TOKEN) == 7 and count(tight, prompt.input_ids, VIDEO_TOKEN) == 4


def test_a_current_turn_that_does_not_fit_is_refused_with_its_size(make_model):
    _, processor = make_model(max_prompt_tokens=10)
    with pytest.raises(DataError, match=r"take \d+ tokens, more than max_prompt_tokens 10: 'And what now\?'"):
        processor.encode_prompt(HISTORY, CURRENT, CLIP)


@pytest.mark.parametrize("token", [*PLACEHOLDERS, "<|end|>", "<|assistant|>"])
def test_a_special_token_in_anyones_words_is_refused(processor, token):
    forged = Turn("user", f"Look {token} here")
    for history, current in (([], forged), ([forged], CURRENT)):
        with pytest.raises(DataError, match="not for words; remove it"):
            processor.encode_prompt(history, current, CLIP)
    with pytest.raises(DataError, match="not for words"):
        processor.encode_reply(f"Look {token} here", "sad")


def test_a_reply_begins_with_its_label_and_ends_the_turn(processor):
    assert processor.tokenizer.decode(processor.encode_reply("I am here.", "sad")) == "(sad) I am here.<|end|>"
    assert processor.tokenizer.decode(processor.encode_reply("I am here.", None)) == "I am here.<|end|>"


@pytest.mark.parametrize("text", ["I am here.", "Well (really) so.", "", "Ü?"])
@pytest.mark.parametrize("emotion", ["sad", "angry"])
def test_a_label_can_be_taken_off_again(text, emotion):
    assert split_reply(reply_text(text, emotion)) == (emotion, text)


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ("No label.", (None, "No label.")),
        ("(sad without an end", (None, "(sad without an end")),
        (" (sad)  padded ", ("sad", "padded")),
        ("Later (sad) one", (None, "Later (sad) one")),
    ],
)
def test_replies_without_a_label_stay_whole(reply, parts):
    assert split_reply(reply) == parts


def test_placeholders_are_added_once_and_are_single_tokens(make_tokenizer):
    words = make_tokenizer()
    first, size = add_placeholders(words), len(words)
    assert add_placeholders(words) == first and len(words) == size == 324
    assert all(len(words.encode(token)) == 1 for token in PLACEHOLDERS)
    assert words.decode(words.encode(f"a{AUDIO_TOKEN}b<|user|>"), skip_special_tokens=True) == "ab"


def test_a_batch_stacks_histories_and_clips(processor):
    prompts = [
        processor.encode_prompt(HISTORY[:2], CURRENT, CLIP),
        processor.encode_prompt([], CURRENT, ClipFeatures()),
    ]
    batch = processor.batch_context(prompts)
    assert batch["history_ids"][0].tolist() == prompts[0].history_ids
    assert batch["history_ids"][1].sum() == 0
    assert batch["num_mel_frames"].tolist() == [100, 0] and batch["num_video_frames"].tolist() == [4, 0]
    empty = processor.batch_context(prompts[1:])
    assert empty["history_ids"].shape == (1, 1) and empty["pixel_values"].shape == (1, 1, 3, 16, 16)


def test_save_and_load_through_the_auto_class(make_model, tmp_path):
    model, processor = make_model(max_prompt_tokens=77, system_prompt="Be kind.")
    processor.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, EpoProcessor)
    for name in ("history_vocab_size", "num_memory_tokens", "audio_stack", "system_prompt", "max_prompt_tokens"):
        assert getattr(loaded, name) == getattr(processor, name), name
    assert (loaded.max_audio_seconds, loaded.video_fps, loaded.max_frames) == (4.0, 4.0, 4)
    ours, theirs = (p.encode_prompt(HISTORY[:1], CURRENT, CLIP) for p in (processor, loaded))
    assert ours.input_ids == theirs.input_ids and ours.history_ids == theirs.history_ids
    assert loaded.clips._settings == processor.clips._settings
    loaded.require_fit(model.config)


def test_a_processor_of_another_model_is_refused(model_and_processor):
    model, processor = model_and_processor
    processor.num_memory_tokens = 3
    with pytest.raises(DataError, match="the processor has num_memory_tokens 3, the model 2; load both"):
        processor.require_fit(model.config)
    processor.num_memory_tokens, model.config.compressor_config.history_emotions = 2, True
    with pytest.raises(DataError, match="the processor has history_emotions False, the model True; load both"):
        processor.require_fit(model.config)

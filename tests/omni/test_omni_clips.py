"""Clips for Qwen2.5-Omni: what its own feature extractor and video rule give, and no more tokens than vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from epo.data.dialogue import DataError
from epo.data.media import MediaError
from epo.model.omni.processing import OmniProcessor
from epo.prompts.parts.omni_clip import AUDIO, AUDIO_BOS, MARKS, VIDEO, VISION_BOS


def test_sound_is_what_its_feature_extractor_gives_for_five_padded_minutes(omni_processor):
    """Also where the length is no whole number of hops."""
    sound = np.random.default_rng(0).normal(scale=0.1, size=16_050).astype(np.float32)
    stock = omni_processor.feature_extractor(
        sound, sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="np"
    )
    ours = omni_processor.clips._log_mel(sound)
    assert ours.shape == (16, stock["attention_mask"].sum()) == (16, 101)
    np.testing.assert_array_equal(ours, stock["input_features"][0][:, :101])


def test_patches_of_a_pair_by_hand(omni_processor):
    """Two grey frames, 100 and 200 of 255: each patch is, by channel, 16 numbers of the first and 16 of the second."""
    frames = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in (100, 200)])
    patches = omni_processor.clips._patches(frames)
    assert patches.shape == (1, 4, 4, 3 * 2 * 4 * 4)
    channels = patches.reshape(16, 3, 2, 16)
    pictures = omni_processor.image_processor
    for channel in range(3):
        mean, std = pictures.image_mean[channel], pictures.image_std[channel]
        for frame, shade in enumerate((100, 200)):
            np.testing.assert_allclose(channels[:, channel, frame], (shade / 255 - mean) / std, rtol=1e-5)


def test_patches_are_ordered_square_by_square(omni_processor):
    """2 x 2 patches that become one token stand together: rows 0 and 1 of columns 0 and 1 come first."""
    frame = np.zeros((16, 16, 3), np.uint8)
    for row in range(4):
        for column in range(4):
            frame[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 10 * (4 * row + column)
    patches = omni_processor.clips._patches(frame[None])[0].reshape(16, 3, 2, 16)[:, 0, 0, 0]
    order = np.argsort(patches.argsort())
    assert order.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


def test_a_last_odd_frame_is_paired_with_itself(omni_processor):
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
    patches = omni_processor.clips._patches(frames)
    np.testing.assert_array_equal(patches, omni_processor.clips._patches(np.concatenate([frames, frames[-1:]])))
    assert patches.shape[0] == 2


def test_a_second_of_sound_and_picture_counts_its_tokens(omni_build, examples):
    """100 mel frames are 50 after the stride and 25 after pooling; 2 frames a second of 16 x 16 are a 2 x 2 grid."""
    prompt = omni_build(examples[0])
    ids, named = prompt.input_ids, omni_build.processor.tokenizer.convert_tokens_to_ids
    assert ids.count(named(AUDIO)) == 25 and ids.count(named(VIDEO)) == 4
    assert ids.count(named(AUDIO_BOS)) == ids.count(named(VISION_BOS)) == 1


@pytest.mark.parametrize(("number", "missing", "kept"), [(2, VIDEO, AUDIO), (3, AUDIO, VIDEO)])
def test_a_missing_half_has_no_placeholders(omni_build, examples, number, missing, kept):
    ids, named = omni_build(examples[number]).input_ids, omni_build.processor.tokenizer.convert_tokens_to_ids
    assert named(kept) in ids and named(missing) not in ids


def test_no_clip_no_marks_and_no_tensors(omni_build, examples):
    prompt = omni_build(examples[4])
    assert not set(omni_build.processor.tokenizer.convert_tokens_to_ids(list(MARKS))) & set(prompt.input_ids)
    assert omni_build.processor.batch_context([prompt]) == {}


def test_history_is_text_in_its_own_template(omni_build, examples):
    prompt = omni_build(examples[4])
    text = omni_build.processor.tokenizer.decode(prompt.input_ids)
    past = examples[4].history
    assert text.startswith("<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\n" + past[0].text)
    assert text.endswith(f"{examples[4].current.text}<|im_end|>\n<|im_start|>assistant\n")
    alone = omni_build(replace(examples[4], history=()))
    assert prompt.num_history_tokens == len(prompt.input_ids) - len(alone.input_ids) > 0


def test_the_oldest_turns_give_way_and_the_clip_never(omni_build, examples):
    processor, clip = omni_build.processor, omni_build(examples[1]).clip
    whole = processor.encode_prompt(examples[1].history, examples[1].current, clip)
    processor.max_prompt_tokens = len(whole.input_ids) - 1
    cut = processor.encode_prompt(examples[1].history, examples[1].current, clip)
    audio = processor.tokenizer.convert_tokens_to_ids(AUDIO)
    assert len(cut.input_ids) < len(whole.input_ids) and cut.input_ids.count(audio) == whole.input_ids.count(audio)
    assert examples[1].history[0].text not in processor.tokenizer.decode(cut.input_ids)
    processor.max_prompt_tokens = 20
    with pytest.raises(DataError, match=r"a turn and its clip take \d+ tokens, more than max_prompt_tokens 20.*lower"):
        processor.encode_prompt((), examples[1].current, clip)


def test_a_mark_written_in_a_turn_is_refused(omni_build, examples):
    turn = replace(examples[4].current, text="listen <|AUDIO|> please")
    with pytest.raises(DataError, match=r"dialogue 'd4', turn \d+: .*contains '<\|AUDIO\|>'"):
        omni_build(replace(examples[4], current=turn))


def test_an_unreadable_clip_is_named(omni_build, examples, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    clip = replace(examples[0].current.clip, audio=tmp_path / "broken.wav", video=None)
    with pytest.raises(DataError, match="broken.wav") as caught:
        omni_build(replace(examples[0], current=replace(examples[0].current, clip=clip)))
    assert isinstance(caught.value.__cause__, MediaError)


def test_a_spread_out_clip_says_how_far_its_frames_are_apart(omni_processor):
    """Two frames a second: pairs are 1 s apart. Eight frames spread over 10 s of sound: four pairs, 2.5 s apart."""
    short, long = (np.zeros((16, seconds * 100), np.float32) for seconds in (1, 10))
    video = np.zeros((4, 4, 4, 96), np.float32)
    clips = omni_processor.clips
    from epo.model.clip_reader import ClipFeatures

    batch = clips.batch([ClipFeatures(short, video[:1]), ClipFeatures(long, video), ClipFeatures(None, video)])
    assert batch["video_second_per_grid"].tolist() == [1.0, 2.5, 1.0]
    assert batch["video_grid_thw"].tolist() == [[1, 4, 4], [4, 4, 4], [4, 4, 4]]
    assert batch["feature_attention_mask"].sum(dim=1).tolist() == [100, 1000]


def test_a_tokenizer_without_its_marks_is_refused(omni_processor, tokenizer):
    with pytest.raises(DataError, match=r"lacks <\|AUDIO\|>, .*use the tokenizer of its checkpoint"):
        OmniProcessor(omni_processor.feature_extractor, omni_processor.image_processor, tokenizer)


def test_it_is_saved_and_loaded_whole(omni_build, examples, tmp_path):
    omni_build.processor.save_pretrained(tmp_path)
    loaded = OmniProcessor.from_pretrained(tmp_path)
    assert (loaded.max_audio_seconds, loaded.max_frame_pixels, loaded.video_fps) == (4.0, 256, 2.0)
    prompt = omni_build(examples[0])
    again = loaded.encode_prompt(examples[0].history, examples[0].current, prompt.clip)
    assert again.input_ids == prompt.input_ids
    mine, its = omni_build.processor.batch_context([prompt]), loaded.batch_context([again])
    assert all(torch.equal(mine[name], its[name]) for name in mine)

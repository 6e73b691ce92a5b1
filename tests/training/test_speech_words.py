"""Words beside emotions: CTC and Whisper's decoder by hand, padding, and errors counted in words and characters."""

import math

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from epo.data.cache import ClipCache
from epo.data.dialogue import read_dialogues
from epo.data.selection import spoken_clips
from epo.evaluation.word_error import character_error_rate, edit_distance, word_error_rate
from epo.training.speech_words import CtcReader, DecoderReader, SpeechLearner, WordsCollator, ctc_losses


def test_word_error_by_hand():
    """One substitution and one deletion in four words; of nothing wanted there is no rate."""
    assert word_error_rate(["a x c"], ["a b c d"]) == 0.5
    assert word_error_rate(["A, b!", ""], ["a B", "c d"]) == 0.5  # two of four words are missing
    assert word_error_rate(["x"], [""]) is None
    assert character_error_rate(["abd"], ["abc"]) == pytest.approx(1 / 3)
    assert character_error_rate(["你坏"], ["你好"]) == word_error_rate(["你坏"], ["你好"]) == 0.5
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "ab") == edit_distance("ab", "") == 2


def test_ctc_by_hand():
    """Two states, one character, all alike: of four paths three say it, so the loss is ln(4/3)."""
    losses = ctc_losses(torch.zeros(3, 2, 2), torch.tensor([2, 2, 0]), [[1], [], [1]])
    assert losses.tolist() == pytest.approx([math.log(4 / 3), 0.0, 0.0])
    longer = ctc_losses(torch.zeros(1, 4, 2), torch.tensor([2]), [[1]])
    assert longer.item() == pytest.approx(math.log(4 / 3))  # padding states say nothing
    two = ctc_losses(torch.zeros(1, 2, 3), torch.tensor([2]), [[1, 2]])
    assert two.item() == pytest.approx(math.log(9) / 2)  # one path of nine, over two characters


def test_what_ctc_reads_is_the_best_path_without_repeats_and_blanks():
    reader = CtcReader(4, ["ab ", "B"])
    assert reader.characters == ["a", "b"]
    reader.head = torch.nn.Identity()
    path = torch.tensor([[1, 1, 0, 1, 2, 2]])
    states = torch.nn.functional.one_hot(path, 3).float()
    assert reader.read(states, torch.ones(1, 6, dtype=torch.bool)) == ["aab"]
    assert reader.read(states, torch.tensor([[True, True, False, False, False, False]])) == ["a"]


class _Letters:
    """A tokenizer of two marks before the words, a letter a token, and one mark after them."""

    def __call__(self, text):
        return type("Encoding", (), {"input_ids": [1, 2, *(3 + ord(c) - 97 for c in text), 0]})

    def decode(self, ids, skip_special_tokens):
        return "".join(chr(97 + i - 3) for i in ids)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=32, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, num_mel_bins=8,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return DecoderReader(WhisperForConditionalGeneration(config), _Letters(), max_new_tokens=4)


def test_whispers_decoder_is_forced_through_the_words_and_the_end_blind_to_padding(decoder):
    """Zero weights make all tokens alike: ln 32 a token."""
    torch.manual_seed(1)
    states, mask = torch.randn(3, 6, 16, requires_grad=True), torch.ones(3, 6, dtype=torch.bool)
    mask[0, 4:] = False
    losses = decoder.losses(states, mask, ["abc", None, "b"])
    assert losses[1] == 0 and losses[0] > 0
    alone = decoder.losses(states[:1, :4], mask[:1, :4], ["abc"])
    assert losses[0].item() == pytest.approx(alone.item(), rel=1e-5)
    losses.sum().backward()
    assert states.grad[0, :4].any() and not states.grad[0, 4:].any() and not states.grad[1].any()
    assert all(len(said) <= 4 for said in decoder.read(states, mask))
    for parameter in decoder._whisper.parameters():
        torch.nn.init.zeros_(parameter)
    assert decoder.losses(states, mask, ["abc"] * 3).tolist() == pytest.approx([math.log(32)] * 3)


def test_words_reach_the_speech_encoder_and_a_frozen_decoder_is_no_part_of_what_is_saved(
    corpus, reader, make_extractor, decoder
):
    clips = spoken_clips(d for d in read_dialogues(corpus / "dialogues.jsonl") if d.split == "train")
    assert len(clips) == 6 and all(one.clip.video is None and one.words for one in clips)
    batch = WordsCollator(clips, reader, ClipCache(None))([{"index": i} for i in range(3)])
    assert batch["num_video_frames"].tolist() == [0, 0, 0] and batch["texts"][0] == clips[0].words
    batch.pop("emotions")
    for words in (CtcReader(16, [one.words for one in clips]), decoder):
        learner = SpeechLearner(make_extractor(), words)
        assert any(name.startswith("words.") for name in learner.state_dict()) == (words is not decoder)
        texts = ["abc"] * 3 if words is decoder else batch["texts"]
        output, losses = learner(**(batch | {"texts": texts}))
        losses.mean().backward()
        assert (losses > 0).all() and output.audio_states.shape[:2] == output.audio_state_mask.shape
        assert learner.extractor.audio_encoder.conv1.weight.grad.any()
        assert learner.extractor.vision_tower.get_input_embeddings().weight.grad is None
        heard = {key: value for key, value in batch.items() if key != "texts"}
        assert len(learner.eval().read(heard)) == 3

"""The extractor: Whisper on the real length, deaf to padding and neighbours, whole without one modality."""

import math

import pytest
import torch
from transformers import AutoModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.extractor import EmotionExtractor, ExtractorOutput, emotion_loss
from epo.model.hearing import LogMel


@pytest.fixture
def extractor(make_extractor):
    return make_extractor()


def features(num_mels=100, num_frames=4, seed=0):
    """A clip of random features; 0 leaves a half out."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(16, num_mels, generator=generator).numpy() if num_mels else None
    video = torch.randn(num_frames, 3, 16, 16, generator=generator).numpy() if num_frames else None
    return ClipFeatures(audio, video)


def run(extractor, reader, *clips):
    with torch.no_grad():
        return extractor(**reader.batch(clips))


def real(output, row):
    """The real tokens and the scores of a row."""
    audio, video = output.audio_tokens[row][output.audio_mask[row]], output.video_tokens[row][output.video_mask[row]]
    return torch.cat([audio.flatten(), video.flatten(), output.fused_logits[row]])


def test_on_thirty_seconds_it_is_the_stock_whisper_encoder():
    from transformers import WhisperConfig

    torch.manual_seed(0)
    config = WhisperConfig(
        num_mel_bins=16, d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, dropout=0.0
    )
    encoder = WhisperEncoder(config).eval()
    mels = torch.randn(1, 16, 3000)
    with torch.no_grad():
        states, mask = LogMel().encode(encoder, mels, torch.tensor([3000]))
        stock = encoder(mels).last_hidden_state
    assert mask.all() and mask.shape == (1, 1500)
    torch.testing.assert_close(states, stock, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("mels", "tokens"), [(0, 0), (1, 1), (16, 1), (17, 2), (100, 7), (101, 7), (3000, 188)])
def test_tokens_of_a_clip_follow_its_length(extractor, reader, mels, tokens):
    """100 mel frames a second, stride 2, 8 stacked: 6.25 tokens a second, a started one counting whole."""
    assert tokens == math.ceil(math.ceil(mels / 2) / 8)
    assert extractor.config.num_audio_tokens(mels) == tokens
    if 0 < mels <= 101:
        assert run(extractor, reader, features(num_mels=mels)).audio_mask.sum().item() == tokens


def test_a_clip_is_the_same_alone_beside_others_and_padded(extractor, reader):
    clips = [features(60, 2, seed=1), features(100, 4, seed=2), features(0, 3, seed=3), features(33, 0, seed=4)]
    together = run(extractor, reader, *clips)
    for row, clip in enumerate(clips):
        alone = run(extractor, reader, clip)
        torch.testing.assert_close(real(together, row), real(alone, 0), atol=1e-5, rtol=1e-5)
        for head in ("audio_logits", "video_logits"):
            torch.testing.assert_close(together[head][row], alone[head][0], atol=1e-5, rtol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(extractor, reader):
    batch = reader.batch([features(61, 2, seed=1), features(100, 4, seed=2)])
    with torch.no_grad():
        clean = extractor(**batch)
        batch["input_features"][0, :, 61:] = 1e3
        batch["pixel_values"][0, 2:] = 1e3
        dirty = extractor(**batch)
    torch.testing.assert_close(real(dirty, 0), real(clean, 0), atol=1e-5, rtol=1e-5)


def test_empty_clips_are_finite_masked_and_give_every_parameter_a_gradient(extractor, reader):
    """A missing half runs through the same graph: a rank without clips still meets its peers' collectives."""
    output = extractor(**reader.batch([ClipFeatures(), ClipFeatures()]))
    assert not output.audio_mask.any() and not output.video_mask.any()
    loss = emotion_loss(output, torch.tensor([2, -100]))
    (loss + output.audio_tokens.sum() + output.video_tokens.sum()).backward()
    missing = [n for n, p in extractor.named_parameters() if p.requires_grad and p.grad is None]
    broken = [n for n, p in extractor.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    assert missing == [] and broken == []


def test_fused_scores_use_both_halves_and_single_heads_only_their_own(extractor, reader):
    clip, other = features(seed=1), features(seed=2)
    own = run(extractor, reader, clip)
    strange_voice = run(extractor, reader, ClipFeatures(other.audio, clip.video))
    strange_face = run(extractor, reader, ClipFeatures(clip.audio, other.video))
    torch.testing.assert_close(own.video_logits, strange_voice.video_logits)
    torch.testing.assert_close(own.audio_logits, strange_face.audio_logits)
    assert (own.fused_logits - strange_voice.fused_logits).abs().max() > 1e-5
    assert (own.fused_logits - strange_face.fused_logits).abs().max() > 1e-5


def test_the_loss_weighs_heads_and_skips_what_is_missing():
    """Uniform scores cost ln 7 a head: 1 + 0.5 + 0.5 heads with both halves, 1 + 0.5 where no row has a face."""

    def output(has_face):
        scores, yes = torch.zeros(2, 7), torch.ones(2, 1, dtype=torch.bool)
        return ExtractorOutput(
            audio_mask=yes, video_mask=yes & has_face, fused_logits=scores, audio_logits=scores, video_logits=scores
        )

    labels = torch.tensor([0, 3])
    assert emotion_loss(output(True), labels).item() == pytest.approx(2.0 * math.log(7))
    assert emotion_loss(output(False), labels).item() == pytest.approx(1.5 * math.log(7))
    # The mean is over both examples; the one without a label adds nothing.
    assert emotion_loss(output(True), torch.tensor([-100, 3])).item() == pytest.approx(1.0 * math.log(7))
    assert emotion_loss(output(True), torch.tensor([-100, -100])).item() == 0.0


def test_save_and_load_through_the_auto_class(extractor, reader, tmp_path):
    extractor.save_pretrained(tmp_path)
    reader.save(tmp_path)
    loaded, again = AutoModel.from_pretrained(tmp_path).eval(), ClipReader.load(tmp_path)
    assert isinstance(loaded, EmotionExtractor)
    assert loaded.config.id2label[3] == "happy"
    assert (again.max_audio_seconds, again.video_fps, again.max_frames) == (4.0, 4.0, 4)
    clip = features()
    torch.testing.assert_close(run(loaded, again, clip).fused_logits, run(extractor, reader, clip).fused_logits)


def test_real_clips_are_read_with_what_they_have(corpus, examples, reader, clip_cache):
    read = [reader.read(example.current.clip, clip_cache) for example in examples[:5]]
    assert read[0].audio.shape == (16, 100) and read[0].video.shape == (4, 3, 16, 16)
    assert read[1].audio.shape == (16, 60)
    assert read[2].video is None and read[3].audio is None
    assert read[4] == ClipFeatures()
    batch = reader.batch(read)
    assert batch["num_mel_frames"].tolist() == [100, 60, 100, 0, 0]
    assert batch["num_video_frames"].tolist() == [4, 4, 0, 4, 0]


def test_a_clip_tower_serves_as_well_as_siglip(reader):
    from transformers import CLIPImageProcessorPil

    from epo.model.configuration import ExtractorConfig

    vision = {
        "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    audio = {"model_type": "whisper", "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1}
    audio |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    extractor = EmotionExtractor(
        ExtractorConfig(audio_config=audio, vision_config=vision, hidden_size=16, num_heads=2, max_frames=4)
    ).eval()
    size = {"height": 16, "width": 16}
    pictures = CLIPImageProcessorPil(size=size, crop_size=size)
    fitting = ClipReader(reader.feature_extractor, pictures, 4.0, 4.0, 4)
    assert torch.isfinite(run(extractor, fitting, features()).fused_logits).all()

"""Every family of audio encoders and vision towers, tiny: states as stock, deaf to neighbours, whole after a reload."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    Siglip2ImageProcessorPil,
    Siglip2VisionModel,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
    Wav2Vec2FeatureExtractor,
)

from epo.data.cache import ClipCache
from epo.model import hearing, seeing
from epo.model.checkpoints import load_weights
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.extractor import emotion_loss
from epo.model.hearing import LogMel, Waveform, hearing_of
from epo.model.parts import build_extractor
from epo.part_names import PartError

SIZES = {"hidden_size": 16, "num_heads": 2, "max_frames": 4, "dropout": 0.0, "augmentation": 0.0}
_WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_VOICE = _WIDTH | {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
_STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
VOICES = {
    "wav2vec2": {"model_type": "wav2vec2", **_VOICE},
    "wav2vec2, layer norm": {"model_type": "wav2vec2", **_VOICE, **_STABLE},
    "hubert": {"model_type": "hubert", **_VOICE},
    "hubert, layer norm": {"model_type": "hubert", **_VOICE, **_STABLE},
    "wavlm": {"model_type": "wavlm", **_VOICE},
    "wavlm, layer norm": {"model_type": "wavlm", **_VOICE, **_STABLE},
}
WHISPER = {
    "model_type": "whisper", "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
    "vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
_PICTURE = _WIDTH | {"image_size": 16, "patch_size": 8}
TOWERS = {
    "clip": {"model_type": "clip_vision_model", **_PICTURE},
    "siglip": {"model_type": "siglip_vision_model", **_PICTURE, "vision_use_head": False},
    "siglip2": {"model_type": "siglip2_vision_model", **_WIDTH, "num_patches": 4, "patch_size": 8,
                "vision_use_head": False},
    "dinov2": {"model_type": "dinov2", **_WIDTH, "image_size": 24, "patch_size": 8},
    "dinov2, registers": {"model_type": "dinov2_with_registers", **_WIDTH, "image_size": 24, "patch_size": 8,
                          "num_register_tokens": 3},
    "vit": {"model_type": "vit", **_PICTURE},
}  # fmt: skip
_SIZE = {"height": 16, "width": 16}
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size=_SIZE, crop_size=_SIZE),
    "siglip": SiglipImageProcessorPil(size=_SIZE),
    "siglip2": Siglip2ImageProcessorPil(patch_size=8, max_num_patches=4),
    "dinov2": BitImageProcessorPil(size={"shortest_edge": 20}, crop_size=_SIZE),
    "dinov2, registers": BitImageProcessorPil(size={"shortest_edge": 20}, crop_size=_SIZE),
    "vit": ViTImageProcessorPil(size=_SIZE),
}


def config_of(values):
    return AutoConfig.for_model(**values)


def spread(model):
    """Weights so large that states differ."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1 and parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    return model.eval()


def voices(*lengths, seed=0):
    """Waveforms side by side, the shorter ones with noise where their padding is."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(lengths), 1, max(lengths), generator=generator), torch.tensor(lengths)


@pytest.fixture
def encoder():
    def make(name):
        return spread(Waveform().build(config_of(VOICES[name])))

    return make


@torch.no_grad()
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_alone_is_as_in_the_stock_model(encoder, name):
    model, (wave, lengths) = encoder(name), voices(3200)
    states, mask = Waveform().encode(model, wave, lengths)
    assert mask.all() and states.shape == (1, 9, 16)
    torch.testing.assert_close(states, model(wave[:, 0]).last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_is_the_same_beside_others_and_whatever_stands_in_its_padding(encoder, name):
    model = encoder(name)
    wave, lengths = voices(3200, 1777, 400, 0)
    states, mask = Waveform().encode(model, wave, lengths)
    assert mask.sum(dim=1).tolist() == [9, 5, 1, 0]
    assert states.isfinite().all() and states[~mask].abs().max() == 0
    for row, length in enumerate(lengths.tolist()[:3]):
        alone, _ = Waveform().encode(model, wave[row : row + 1, :, :length], lengths[row : row + 1])
        torch.testing.assert_close(states[row][mask[row]], alone[0], atol=1e-5, rtol=1e-5)
        loud = wave.clone()
        loud[row, :, length:] = 1e3
        again, _ = Waveform().encode(model, loud, lengths)
        torch.testing.assert_close(states[row], again[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("steps", "states"), [(0, 0), (399, 0), (400, 1), (719, 1), (720, 2), (16000, 49)])
def test_states_of_a_voice_follow_its_length(encoder, steps, states):
    """25 ms for the first, 20 ms for each after it: (16000 - 400) // 320 + 1 = 49."""
    assert Waveform().num_states(steps) == states == Waveform().num_states(torch.tensor([steps])).item()
    if steps >= 400:
        assert encoder("hubert").feature_extractor(torch.zeros(1, steps)).size(-1) == states
    assert LogMel().num_states(torch.tensor([101, 0])).tolist() == [51, 0]


def test_a_voice_shorter_than_one_state_is_filled_up():
    features = Waveform().features(Wav2Vec2FeatureExtractor(do_normalize=False), np.ones(100, np.float32))
    assert features.shape == (1, 400) and features.sum() == 100


@torch.no_grad()
@pytest.mark.parametrize("name", TOWERS)
def test_patches_are_those_of_the_picture_row_by_row(name):
    """Only the patch under a changed corner changes before attention mixes them: the towers have no layers."""
    config = config_of(TOWERS[name] | {"num_hidden_layers": 0})
    kind = seeing.seeing_of(config)
    tower = spread(kind.build(config))
    frames = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = frames.clone()
    changed[0, :, 8:, :8] += 1.0
    gap = (kind.patches(tower, changed) - kind.patches(tower, frames)).abs().amax(dim=1)
    assert (gap > 1e-4).tolist() == [[[False, False], [True, False]], [[False, False], [False, False]]]


@torch.no_grad()
def test_siglip2_in_its_packed_form_sees_what_its_own_processor_gives_it():
    config = config_of(TOWERS["siglip2"])
    kind = seeing.seeing_of(config)
    tower = spread(kind.build(config))
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    stock = Siglip2ImageProcessorPil(patch_size=8, max_num_patches=4)(picture, return_tensors="pt")
    assert isinstance(tower, Siglip2VisionModel)
    states = tower(**stock).last_hidden_state.transpose(1, 2).unflatten(2, (2, 2))
    frames = torch.from_numpy(np.stack(kind.make_processor(config)([picture])["pixel_values"]))
    torch.testing.assert_close(kind.patches(tower, frames), states, atol=1e-5, rtol=1e-5)


def save(part, config, processor, folder):
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / part)
    processor.save_pretrained(folder / part)
    return str(folder / part)


@pytest.fixture
def built(tmp_path):
    """An extractor and its reader from saved checkpoints, or from config files."""

    def build(voice, tower, from_configs=False):
        audio = WHISPER if voice == "whisper" else VOICES[voice]
        if from_configs:
            names = []
            for part, values in (("audio.json", audio), ("vision.json", TOWERS[tower])):
                (tmp_path / part).write_text(json.dumps(values))
                names.append(str(tmp_path / part))
        else:
            kind = hearing_of(config_of(audio))
            names = [
                save("audio", config_of(audio), kind.make_processor(config_of(audio)), tmp_path),
                save("vision", config_of(TOWERS[tower]), PROCESSORS[tower], tmp_path),
            ]
        extractor, sounds, pictures = build_extractor(*names, SIZES)
        return extractor.eval(), ClipReader(sounds, pictures, 4.0, 4.0, 4)

    return build


PAIRS = [("whisper", tower) for tower in TOWERS] + [(voice, "siglip") for voice in VOICES]


@torch.no_grad()
@pytest.mark.parametrize(("voice", "tower"), PAIRS)
def test_an_extractor_of_real_clips_saved_and_reloaded(built, corpus, examples, tmp_path, voice, tower):
    extractor, reader = built(voice, tower)
    cache = ClipCache(tmp_path / "cache")
    clips = [reader.read(example.current.clip, cache) for example in examples[:5]]
    batch = reader.batch(clips)
    together = extractor(**batch)
    assert together.fused_logits.isfinite().all()
    for row, clip in enumerate(clips):
        alone = extractor(**reader.batch([clip]))
        for logits in ("fused_logits", "audio_logits", "video_logits"):
            torch.testing.assert_close(together[logits][row], alone[logits][0], atol=1e-5, rtol=1e-5)
        steps = 0 if clip.audio is None else clip.audio.shape[1]
        assert alone.audio_mask.sum() == extractor.config.num_audio_tokens(steps)
    extractor.save_pretrained(tmp_path / "extractor")
    reader.save(tmp_path / "extractor")
    loaded, again = load_weights(AutoModel, str(tmp_path / "extractor")).eval(), ClipReader.load(tmp_path / "extractor")
    assert _held_still(loaded) == _held_still(extractor)
    read = [again.read(example.current.clip, cache) for example in examples[:5]]
    torch.testing.assert_close(loaded(**again.batch(read)).fused_logits, together.fused_logits)
    assert type(again.image_processor) is type(reader.image_processor)


def _held_still(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(("voice", "tower"), PAIRS)
def test_every_weight_that_trains_gets_a_gradient_without_a_clip_too(built, voice, tower):
    extractor, reader = built(voice, tower, from_configs=True)
    output = extractor.train()(**reader.batch([ClipFeatures(), ClipFeatures()]))
    loss = emotion_loss(output, torch.tensor([2, 1])) + output.audio_tokens.sum() + output.video_tokens.sum()
    loss.backward()
    missing = {name for name, p in extractor.named_parameters() if p.requires_grad and p.grad is None}
    broken = [n for n, p in extractor.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    unused = {"clip": {"vision_tower.post_layernorm.weight", "vision_tower.post_layernorm.bias"}}
    assert missing <= unused.get(tower, set()) and broken == []


def test_features_are_kept_apart_by_what_hears_them(built, examples, tmp_path):
    cache = ClipCache(tmp_path / "cache")
    shapes = []
    for voice in ("whisper", "hubert"):
        _, reader = built(voice, "siglip", from_configs=True)
        shapes.append(reader.read(examples[0].current.clip, cache).audio.shape)
    assert shapes == [(16, 100), (1, 16000)]


@pytest.mark.parametrize(
    ("audio", "vision", "message"),
    [
        (
            "bert",
            "siglip",
            r"audio: an audio encoder of family 'bert' is not supported; want one of whisper, wav2vec2, ",
        ),
        (
            "whisper",
            "whisper",
            r"vision: a vision tower of family 'whisper' is not supported; want one of clip, siglip, ",
        ),
        ("clip", "siglip", r"audio: an audio encoder of family 'clip_vision_model' is not supported"),
    ],
)
def test_another_family_is_refused_before_its_weights_are_read(tmp_path, audio, vision, message):
    known = VOICES | TOWERS | {"whisper": WHISPER, "bert": {"model_type": "bert"}}
    for part, name in (("audio", audio), ("vision", vision)):
        config_of(known[name]).save_pretrained(tmp_path / part)
        if name in VOICES | {"whisper": 0}:
            hearing_of(config_of(known[name])).make_processor(config_of(known[name])).save_pretrained(tmp_path / part)
    with pytest.raises(PartError, match=message):
        build_extractor(str(tmp_path / "audio"), str(tmp_path / "vision"), SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "its convolutions have kernels .* want .*; name another checkpoint"),
        ({"add_adapter": True}, "add_adapter is not supported; name another checkpoint"),
    ],
)
def test_layers_that_would_count_otherwise_are_refused(change, message):
    with pytest.raises(PartError, match=message):
        Waveform().build(config_of(VOICES["wav2vec2"] | change))


def test_frames_must_have_the_size_that_the_tower_reads(tmp_path):
    vision = save("vision", config_of(TOWERS["vit"]), ViTImageProcessorPil(), tmp_path)
    (tmp_path / "audio.json").write_text(json.dumps(WHISPER))
    with pytest.raises(PartError, match="makes frames of 224 x 224, the tower reads 16 x 16; mend preprocessor_config"):
        build_extractor(str(tmp_path / "audio.json"), vision, SIZES)


def test_the_lists_of_families_hold_no_other(tmp_path):
    assert {family for kind in hearing.KINDS for family in kind.families} == {"whisper", "wav2vec2", "hubert", "wavlm"}
    assert {config_of(values).model_type for values in TOWERS.values()} == {kind.family for kind in seeing.KINDS}


def test_a_whole_model_with_another_voice_and_tower(
    built, make_llm, make_compressor, make_tokenizer, examples, tmp_path
):
    """Placeholders are counted by the processor, vectors by the model; both are loaded again."""
    from epo.evaluation.generate import generate_replies
    from epo.model.loading import load_model
    from epo.model.modeling import EpoForConditionalGeneration
    from epo.model.processing import EpoProcessor
    from epo.prompts.marks import add_placeholders
    from epo.training.collate import PromptBuilder

    extractor, reader = built("hubert", "dinov2, registers")
    words, compressor = make_tokenizer(), make_compressor()
    model = EpoForConditionalGeneration.from_parts(make_llm(), extractor, compressor, words, add_placeholders(words))
    EpoProcessor(
        reader.feature_extractor, reader.image_processor, words, make_tokenizer(),
        history_vocab_size=compressor.vocab_size, max_audio_seconds=4.0, max_frames=4,
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    model.eval().save_pretrained(tmp_path / "model")
    loaded, processor = load_model(str(tmp_path / "model"), "float32")
    prompts = [PromptBuilder(processor, ClipCache(None))(example) for example in examples[:4]]
    audio = [prompt.input_ids.count(loaded.config.audio_token_id) for prompt in prompts]
    assert audio == [7, 4, 7, 0]  # 49 and 29 states, eight a token; dialogue 3 has no voice
    replies = generate_replies(loaded.eval(), processor, prompts, 2, 3)
    assert len(replies) == 4


@pytest.mark.slow
def test_a_published_whisper_is_read_by_its_name(tmp_path):
    root = os.environ.get("EPO_PARTS_ROOT", "")
    if not (Path(root) / "whisper-tiny.en").is_dir():
        pytest.skip("EPO_PARTS_ROOT names no folder with whisper-tiny.en, which no test downloads")
    (tmp_path / "vision.json").write_text(json.dumps(TOWERS["siglip"]))
    extractor, sounds, _ = build_extractor("openai/whisper-tiny.en", str(tmp_path / "vision.json"), SIZES)
    features = LogMel().features(sounds, np.sin(np.arange(16000) / 20).astype(np.float32))
    with torch.no_grad():
        states, mask = LogMel().encode(
            extractor.eval().audio_encoder, torch.from_numpy(features)[None], torch.tensor([100])
        )
    assert states.shape == (1, 50, 384) and mask.all() and states.isfinite().all()

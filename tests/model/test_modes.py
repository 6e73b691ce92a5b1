"""Training mode is for what trains: frozen parts give the same with it and without."""

import pytest
import torch
from torch import nn

from epo.model.modeling import EpoForConditionalGeneration
from epo.model.modes import rest_frozen
from epo.prompts.marks import add_placeholders
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import freeze_all_but, inject_lora, lora_config


@pytest.fixture
def shaky(make_llm, make_extractor, make_compressor, make_tokenizer):
    """A model whose extractor drops half of everything and changes every clip."""
    words = make_tokenizer()
    ids = add_placeholders(words)
    extractor = make_extractor(dropout=0.5, augmentation=1.0)
    extractor.audio_encoder.dropout = 0.5  # as Whisper keeps it: a number
    return EpoForConditionalGeneration.from_parts(make_llm(), extractor, make_compressor(), words, ids)


@pytest.fixture
def clips(model_and_processor, examples, clip_cache):
    """Inputs of clips and histories of four examples."""
    rows = [{"index": i, "seed": 0} for i in (0, 1, 5, 6)]
    batch = SftCollator(examples, PromptBuilder(model_and_processor[1], clip_cache))(rows)
    names = ("history_ids", "input_features", "num_mel_frames", "pixel_values", "num_video_frames")
    return {name: batch[name] for name in names}


def encoded(model, clips):
    with torch.no_grad():
        context = model.encode_context(**clips)
    return [*(vectors for vectors, _ in context.vectors.values()), context.clips.fused_logits]


def agree(first, second):
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_a_frozen_extractor_hears_and_sees_the_same_in_training(shaky, clips):
    inject_lora(shaky, lora_config(shaky, 4, 8, 0.0))
    freeze_all_but(shaky, ("lora_",))
    shaky.train()
    assert shaky.training and shaky.language_model.training and shaky.language_model.training
    first, again = encoded(shaky, clips), encoded(shaky, clips)
    assert agree(first, again)
    assert agree(first, encoded(shaky.eval(), clips))


def test_an_extractor_that_trains_drops_and_varies(shaky, clips):
    freeze_all_but(shaky, ("extractor",))
    shaky.train()
    assert shaky.extractor.training and not shaky.compressor.training
    assert not agree(encoded(shaky, clips), encoded(shaky, clips))


def test_of_a_part_that_trains_in_part_the_rest_rests(shaky):
    """Dropout without weights goes with the layer that holds it."""
    freeze_all_but(shaky, ("extractor.fusion",))
    shaky.train()
    extractor = shaky.extractor
    assert extractor.training and extractor.fusion.layers[0].dropout.training
    for layer in extractor.temporal.layers:
        assert not any(module.training for module in layer.modules())
    assert not extractor.audio_encoder.training and not extractor.vision_tower.training


def test_evaluation_leaves_nothing_in_training(shaky):
    shaky.train()
    shaky.eval()
    assert not any(module.training for module in shaky.modules())


def test_what_has_no_weights_follows_its_parent():
    whole = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)), nn.Dropout(0.5)).train()
    whole[1].requires_grad_(False)
    rest_frozen(whole)
    assert [module.training for module in (whole, whole[0], whole[1], whole[1][1], whole[2])] == [
        True, True, False, False, True,
    ]  # fmt: skip

"""What models, generation, configurations and processors of transformers do with what is ours, and we with theirs."""

import contextlib
import copy
import json
import logging
import sys
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, WhisperConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging as their_logging

from compressor.seams import cache_name, cache_of_states, states_of_cache, weights_read_at_once
from epo.model.configuration import ExtractorConfig
from epo.model.hearing import LogMel
from epo.model.modeling import EpoForConditionalGeneration

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
MAMBA = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "vocab_size": 40}
MAMBA2 = MAMBA | {"num_heads": 4, "head_dim": 8, "expand": 2, "n_groups": 1, "chunk_size": 4}


@contextlib.contextmanager
def no_old_names():
    """Fail where transformers says that a name is out of date."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    their_logging.warning_once.cache_clear()
    their_logging.get_logger("transformers").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            yield
    finally:
        their_logging.get_logger("transformers").removeHandler(handler)
    assert [text for text in said if "deprecated" in text] == []


def model_of(model_type, **sizes):
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(model_type, **sizes)).eval()


@pytest.fixture
def batch(model_and_processor, build, examples):
    """Two prompts of one length, with their context."""
    prompts = [build(examples[0])] * 2
    ids = torch.tensor([prompt.input_ids for prompt in prompts])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | build.processor.batch_context(prompts)


SETTINGS = {"do_sample": False, "max_new_tokens": 4, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}


@pytest.mark.seam("cache_name")
def test_a_cache_has_one_name_going_in_and_coming_out(make_llm, make_compressor):
    for model in (make_llm().base_model, make_compressor().backbone):
        name, ids = cache_name(model), torch.tensor([[5, 6, 7]])
        with no_old_names(), torch.no_grad():
            whole = model(input_ids=ids).last_hidden_state[:, 2:]
            first = model(input_ids=ids[:, :2], use_cache=True)
            assert name in list(first.keys())
            second = model(input_ids=ids[:, 2:], use_cache=True, **{name: first[name]})
        torch.testing.assert_close(second.last_hidden_state, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.seam("init_weights")
def test_fresh_modules_are_started_by_our_rule(model_and_processor):
    config = model_and_processor[0].config
    config.embedding_std = 3.0
    fresh = EpoForConditionalGeneration(config)
    assert fresh.emotion_words.weight.std().item() == pytest.approx(3.0, rel=0.2)
    assert fresh.clip_head.bias.abs().max() == 0.0


@pytest.mark.seam("custom_code")
def test_buffers_that_no_folder_holds_are_started_after_loading(make_model, tmp_path):
    """Falcon-H1 fills a buffer of its layers from the module around them, which has no weight of its own."""
    sizes = SMALL | {
        "hidden_size": 32,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 320,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_ssm": 64,
    }
    config = AutoConfig.for_model("falcon_h1", ssm_multipliers=[2.0, 3.0, 4.0, 5.0, 6.0], **sizes)
    model, _ = make_model(AutoModelForCausalLM.from_config(config))
    model.save_pretrained(tmp_path)
    buffers = dict(EpoForConditionalGeneration.from_pretrained(tmp_path).named_buffers())
    assert any(name.endswith("mup_vector") for name in buffers)
    assert [name for name, buffer in model.named_buffers() if not buffer.equal(buffers[name])] == []


@pytest.mark.seam("config_post_init")
def test_a_config_keeps_unknown_keys_and_builds_its_parts(tmp_path):
    config = ExtractorConfig(audio_config={"model_type": "whisper", "d_model": 24}, made_up=5)
    config.save_pretrained(tmp_path)
    for found in (config, AutoConfig.from_pretrained(tmp_path)):
        assert found.made_up == 5 and found.id2label[3] == "happy"
        assert isinstance(found.audio_config, WhisperConfig) and found.audio_config.d_model == 24


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.seam("mask_4d")
def test_a_mask_of_pairs_is_obeyed(make_llm, attention):
    """Two texts in one row, hidden from each other and counted from zero, give the states of two rows."""
    model = make_llm().base_model
    model.set_attn_implementation(attention)
    block = torch.ones(2, 2).tril()
    mask = torch.zeros(1, 1, 4, 4).masked_fill(torch.block_diag(block, block) == 0, torch.finfo(torch.float32).min)
    with torch.no_grad():
        two = model(input_ids=torch.tensor([[5, 6], [7, 8]])).last_hidden_state
        one = model(
            input_ids=torch.tensor([[5, 6, 7, 8]]), attention_mask=mask, position_ids=torch.tensor([[0, 1, 0, 1]])
        ).last_hidden_state
    torch.testing.assert_close(one.view(2, 2, -1), two, atol=1e-5, rtol=1e-5)


@pytest.mark.seam("mamba_mixers")
@pytest.mark.parametrize(("model_type", "sizes"), [("mamba", MAMBA), ("mamba2", MAMBA2)])
def test_a_mamba_layer_holds_its_convolution_and_returns_a_tensor(model_type, sizes):
    model, seen = model_of(model_type, **sizes), []
    for module in model.modules():
        if any(isinstance(c, torch.nn.Conv1d) and c.groups > 1 for c in module.children()):
            module.register_forward_hook(lambda module, _, output: seen.append((type(module), type(output))))
    model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False)
    kind = {"mamba": MambaMixer, "mamba2": Mamba2Mixer}[model_type]
    assert seen == [(kind, torch.Tensor)] * 2


@pytest.mark.seam("mamba_scan")
@pytest.mark.parametrize("name", ["mamba2_chunk_scan", "causal_conv1d_fn"])
def test_mamba_2_layers_call_the_functions_of_their_module(monkeypatch, name):
    if not hasattr(modeling_mamba2, name):
        pytest.skip("this version of transformers keeps the scan inside the layer")
    called = []
    original = getattr(modeling_mamba2, name)
    monkeypatch.setattr(modeling_mamba2, name, lambda *a, **k: called.append(name) or original(*a, **k))
    model = model_of("mamba2", **MAMBA2)
    model(input_ids=torch.arange(5, 15).unsqueeze(0), use_cache=False)
    assert len(called) == 2  # once a layer


@pytest.mark.seam("mamba_state")
def test_a_mamba_model_goes_on_where_it_stopped():
    model, ids = model_of("mamba2", **MAMBA2), torch.arange(5, 15).unsqueeze(0)
    with torch.no_grad():
        whole = model(inputs_embeds=model.get_input_embeddings()(ids), use_cache=False).last_hidden_state
        cache, pieces = None, []
        for piece in ids.split((3, 1, 6), dim=1):
            embeds = model.get_input_embeddings()(piece)
            output = model(inputs_embeds=embeds, use_cache=True, **{cache_name(model): cache})
            cache = output[cache_name(model)]
            pieces.append(output.last_hidden_state)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.seam("recurrent_states")
@pytest.mark.parametrize("family", ["mamba2", "mamba"])
def test_a_mamba_model_goes_on_from_states_taken_out_of_a_cache(family):
    """Two rows are read together, then each alone, the other way round. Mamba-1 goes on by one position at a time."""
    model = model_of(family, **(MAMBA2 if family == "mamba2" else MAMBA))
    embeds = model.get_input_embeddings()(torch.arange(5, 15).view(2, 5)).detach()
    with torch.no_grad():
        whole = model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        name = cache_name(model)
        states = states_of_cache(model(inputs_embeds=embeds[:, :4], use_cache=True)[name])
        for row in (1, 0):
            cache = cache_of_states(model, [state[row : row + 1] for state in states])
            last = model(inputs_embeds=embeds[row : row + 1, 4:], use_cache=True, **{name: cache}).last_hidden_state
            torch.testing.assert_close(last[0, 0], whole[row, 4], atol=1e-5, rtol=1e-5)


@pytest.mark.seam("whisper_encoder")
def test_our_way_through_the_whisper_encoder_is_its_own_on_thirty_seconds():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    encoder = WhisperEncoder(WhisperConfig(num_mel_bins=16, **sizes)).eval()
    features = torch.randn(1, 16, 3000)
    with torch.no_grad():
        theirs = encoder(features).last_hidden_state
        ours, mask = LogMel().encode(encoder, features, torch.tensor([3000]))
    assert mask.all()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.seam("tower_patches")
def test_a_changed_patch_changes_its_own_state_most():
    for model_type in ("clip_vision_model", "siglip_vision_model", "vit", "dinov2", "dinov2_with_registers"):
        tower = model_of(model_type, image_size=24, patch_size=8, **SMALL)
        plain = torch.zeros(1, 3, 24, 24)
        changed = plain.clone()
        changed[:, :, 8:16, 16:24] = 1.0  # row 1, column 2 of 3 x 3
        with torch.no_grad():
            states = [tower(pixel_values=pixels).last_hidden_state[0, -9:] for pixels in (plain, changed)]
        assert (states[1] - states[0]).norm(dim=-1).argmax().item() == 1 * 3 + 2, model_type


@pytest.mark.seam("waveform_encoders")
def test_encoders_of_waveforms_have_the_parts_that_we_run():
    voice = SMALL | {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    for model_type in ("wav2vec2", "hubert", "wavlm"):
        encoder = model_of(model_type, **voice)
        first, second = encoder.feature_extractor.conv_layers[:2]
        assert isinstance(first.layer_norm, torch.nn.GroupNorm) and not hasattr(second, "layer_norm"), model_type
        with torch.no_grad():
            hidden = encoder.feature_projection(encoder.feature_extractor(torch.ones(1, 800)).transpose(1, 2))
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            states = encoder.encoder(hidden, attention_mask=torch.ones(1, 2, dtype=torch.bool)).last_hidden_state
        assert states.shape == (1, 2, 16), model_type


@pytest.mark.seam("safe_open")
def test_files_of_weights_are_opened_where_we_say_how(tmp_path, monkeypatch):
    from transformers import modeling_utils

    opened = []
    whole = modeling_utils.safe_open
    monkeypatch.setattr(modeling_utils, "safe_open", lambda *a, **k: opened.append(k["backend"]) or whole(*a, **k))
    before = modeling_utils.safe_open
    model = model_of("mamba", **MAMBA)
    model.save_pretrained(tmp_path)
    with weights_read_at_once():
        again = AutoModel.from_pretrained(tmp_path)
    assert opened == ["pread"] and modeling_utils.safe_open is before
    torch.testing.assert_close(again.state_dict(), model.state_dict())


@pytest.mark.seam("tower_weights")
def test_the_tower_of_a_whole_model_fits_the_tower_alone():
    for model_type in ("clip", "siglip"):
        sizes = {"vision_config": SMALL | {"image_size": 16, "patch_size": 8}, "text_config": SMALL}
        whole = model_of(model_type, **sizes)
        tower = AutoModel.from_config(whole.config.vision_config)
        keys = tower.load_state_dict(whole.vision_model.state_dict(), strict=False)
        assert keys.missing_keys == keys.unexpected_keys == [], model_type


@pytest.mark.seam("pil_processors")
def test_image_processors_need_no_torchvision_and_say_their_family(tmp_path):
    from transformers import BitImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil

    size = {"height": 16, "width": 16}
    kinds = {"CLIP": CLIPImageProcessorPil, "Siglip": SiglipImageProcessorPil, "Bit": BitImageProcessorPil}
    for family, kind in (kinds | {"ViT": ViTImageProcessorPil}).items():
        kind(size=size).save_pretrained(tmp_path / family)
        saved = json.loads((tmp_path / family / "preprocessor_config.json").read_text())
        assert saved["image_processor_type"].startswith(family)
    assert "torchvision" not in sys.modules


@pytest.mark.seam("lora_names")
def test_lora_keeps_the_weights_under_three_names(make_llm):
    from peft import LoraConfig

    from epo.training.lora import inject_lora

    llm = make_llm()
    inject_lora(llm, LoraConfig(r=4, target_modules=["q_proj"]))
    names = {name.split("layers.0.self_attn.")[1] for name in llm.state_dict() if "layers.0.self_attn.q_proj" in name}
    assert names == {f"q_proj.{part}.weight" for part in ("base_layer", "lora_A.default", "lora_B.default")}
    assert isinstance(llm, type(AutoModelForCausalLM.from_config(llm.config)))  # in place: no wrapper around it


@pytest.mark.seam("adapter_off")
def test_a_layer_whose_adapters_are_disabled_is_its_base_layer():
    from peft import LoraConfig, LoraModel

    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    x = torch.randn(2, 4)
    plain = model(x)
    for is_dora in (False, True):
        tuned = LoraModel(copy.deepcopy(model), LoraConfig(target_modules=["0"], use_dora=is_dora), "default")
        tuned.model[0].lora_B["default"].weight.data.normal_()
        assert not torch.allclose(tuned.model(x), plain)
        tuned.model[0]._disable_adapters = True
        assert tuned.model(x).equal(plain)


@pytest.mark.seam("lora_variant")
def test_a_layer_with_a_variant_gives_and_merges_what_the_variant_says():
    from peft import LoraConfig, LoraModel
    from peft.tuners.lora.layer import LoraVariant

    class Doubled(LoraVariant):
        @staticmethod
        def forward(module, active_adapter, x, result, **kwargs):
            return 2 * result

        @staticmethod
        def merge_unsafe(module, active_adapter, orig_weight):
            orig_weight.data *= 2

        @staticmethod
        def unmerge(module, active_adapter, orig_weight):
            return orig_weight / 2

    model, x = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False)), torch.randn(2, 4)
    plain = model(x)
    tuned = LoraModel(model, LoraConfig(target_modules=["0"]), "default")
    tuned.model[0].lora_variant["default"] = Doubled()
    assert tuned.model(x).equal(2 * plain)
    tuned.merge_adapter()
    assert tuned.model[0].base_layer(x).equal(2 * plain)
    tuned.unmerge_adapter()
    assert tuned.model[0].base_layer(x).equal(plain)

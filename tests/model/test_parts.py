"""Parts by name: all of their weights, in the dtype asked for, from safetensors, or a line that says why not."""

import json
import subprocess
import sys
import warnings

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperModel

from epo.evaluation.generate import generate_replies
from epo.evaluation.recognition import recognise
from epo.evaluation.rewards import pair_logps
from epo.model import parts
from epo.model.checkpoints import load_weights
from epo.model.configuration import EpoConfig
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_adapter, load_model
from epo.model.parts import build_compressor, build_extractor, load_llm
from epo.part_names import PartError
from epo.training.collate import PromptBuilder
from epo.training.lora import lora_config

_AUDIO = {
    "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "max_source_positions": 1500, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
    "vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip


def dtypes(model):
    return {parameter.dtype for parameter in model.parameters()}


def change(folder, edit):
    """Rewrite the weights of a folder."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.fixture
def llm_folder(make_llm, tmp_path):
    make_llm().to(torch.bfloat16).save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


@pytest.fixture
def encoders(tmp_path, make_extractor, reader):
    """A whole Whisper in float16, and a vision tower with its processor."""
    WhisperModel(WhisperConfig(**_AUDIO)).to(torch.float16).save_pretrained(tmp_path / "whisper")
    reader.feature_extractor.save_pretrained(tmp_path / "whisper")
    make_extractor().vision_tower.save_pretrained(tmp_path / "siglip")
    reader.image_processor.save_pretrained(tmp_path / "siglip")
    return tmp_path / "whisper", tmp_path / "siglip"


SIZES = {"hidden_size": 16, "num_heads": 2, "max_frames": 4}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_language_model_has_the_dtype_that_was_asked_for(llm_folder, part, dtype):
    for name in (str(llm_folder), part("llm")):
        llm = load_llm(name, dtype)
        assert dtypes(llm) == {getattr(torch, dtype)}, name
        assert {buffer.dtype for buffer in llm.buffers()} == {torch.float32}, name  # rotary frequencies


def test_parts_that_train_are_float32_whatever_their_files_are(llm_folder, encoders, make_compressor, tmp_path):
    extractor, _, _ = build_extractor(*map(str, encoders), SIZES)
    assert dtypes(extractor) == {torch.float32}
    make_compressor().backbone.to(torch.bfloat16).save_pretrained(tmp_path / "mamba")
    compressor = build_compressor(str(tmp_path / "mamba"), 2, load_llm(str(llm_folder), "bfloat16"))
    assert dtypes(compressor) == {torch.float32}
    for part in (EmotionExtractor(extractor.config), make_compressor()):
        part.to(torch.bfloat16).save_pretrained(tmp_path / "part")
        assert dtypes(load_weights(AutoModel, str(tmp_path / "part"))) == {torch.float32}


@pytest.fixture
def saved(make_model, tmp_path):
    """A whole model as the tuning stage saves it: in bfloat16, of parts whose configurations say float32."""
    model, processor = make_model()
    for config in (model.config.extractor_config.vision_config, model.config.compressor_config.backbone_config):
        config.dtype = "float32"
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_part_of_a_whole_model_has_its_dtype(saved, pairs, clip_cache, dtype):
    model, processor = load_model(str(saved), dtype)
    assert dtypes(model) == {getattr(torch, dtype)}
    build = PromptBuilder(processor, clip_cache)  # and it computes
    assert torch.isfinite(pair_logps(model.eval(), pairs[:2], build)[0]).all()
    assert len(generate_replies(model, processor, [build(pair.reply) for pair in pairs[:2]], 2, 3)) == 2
    clips = [pair.reply.current.clip for pair in pairs[:2]]
    assert recognise(model.extractor, clips, ["sad", "happy"], processor.clips, clip_cache)


def test_a_configuration_that_transformers_wrote_is_one_to_start_from(make_compressor, make_llm, tmp_path):
    """Mamba-2's holds an infinity, for which JSON has no number."""
    config, file = make_compressor().config.backbone_config, tmp_path / "mamba2.json"
    config.to_json_file(file)
    assert "Infinity" in file.read_text()
    built = build_compressor(str(file), 2, make_llm()).config.backbone_config
    assert tuple(built.time_step_limit) == tuple(config.time_step_limit) and built.hidden_size == config.hidden_size
    file.write_text('{"model_type": "mamba2", "hidden_size": "wide"}')
    with pytest.raises(PartError, match="mamba2.json: not the config of a part"):
        build_compressor(str(file), 2, make_llm())


def test_a_configuration_forgets_the_dtypes_of_its_parts(saved):
    config = EpoConfig.from_pretrained(saved)
    inner = (config.extractor_config.vision_config, config.compressor_config.backbone_config)
    assert [part.dtype for part in (config.text_config, *inner)] == [None, None, None]


def test_a_model_tuned_in_float32_is_not_rounded(model_and_processor, tmp_path):
    model, processor = model_and_processor
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for dtype, bf16 in (("bfloat16", False), ("float32", True)):
        with pytest.raises(PartError, match="was tuned in float32, and .* set dtype: float32 and bf16: false, or"):
            load_model(str(tmp_path), dtype, bf16)
    load_model(str(tmp_path), "float32")
    config = EpoConfig.from_pretrained(tmp_path)
    config.low_rank = {}  # its LoRA would be beside
    config.save_pretrained(tmp_path)
    load_model(str(tmp_path), "bfloat16")


def _drop(name):
    return lambda weights: weights.pop(name)


def _widen(name):
    return lambda weights: weights.update({name: torch.zeros(3, 3)})


def test_missing_weights_are_named(saved, llm_folder):
    """Not made up: transformers would start them at random with a warning."""
    lost = "extractor.fused_head.weight"
    change(saved, _drop(lost))
    with pytest.raises(PartError, match=f"1 weights are not as its config says: {lost} is missing; get it anew"):
        load_model(str(saved), "bfloat16")
    change(saved, lambda weights: weights.update({lost: torch.zeros(3, 3)}))
    with pytest.raises(PartError, match=f"{lost} is of another size"):
        load_model(str(saved), "bfloat16")
    change(saved, lambda weights: weights.update({lost: torch.zeros(7, 16), "model.strange": torch.zeros(2)}))
    with pytest.raises(PartError, match="model.strange has no place in it"):
        load_model(str(saved), "bfloat16")
    change(llm_folder, lambda weights: weights.update({"model.layers.7.strange": torch.zeros(2)}))
    with pytest.raises(PartError, match="llm: 1 weights are not .*: model.layers.7.strange has no place in it; get it"):
        load_llm(str(llm_folder), "float32")
    change(llm_folder, _drop("model.layers.7.strange"))
    change(llm_folder, lambda weights: weights.update({"strange": torch.zeros(2)}))
    with pytest.raises(PartError, match="strange has no place in it"):
        load_llm(str(llm_folder), "float32")
    change(llm_folder, _drop("strange"))
    change(llm_folder, _drop("model.norm.weight"))
    with pytest.raises(PartError, match=r"model.norm.weight is missing"):
        load_llm(str(llm_folder), "float32")


@pytest.mark.parametrize(
    ("which", "edit", "message"),
    [
        (0, _drop("encoder.conv1.weight"), r"encoder.conv1.weight is missing"),
        (0, _widen("encoder.conv1.bias"), r"encoder.conv1.bias.* is of another size"),
        (1, _drop("post_layernorm.weight"), r"post_layernorm.weight is missing"),
    ],
)
def test_encoders_must_fit(encoders, which, edit, message):
    change(encoders[which], edit)
    with pytest.raises(PartError, match=message):
        build_extractor(*map(str, encoders), SIZES)


def test_heads_of_other_trainings_are_left(llm_folder):
    """A reward model's head, and frequencies that transformers saved once."""
    extra = {name: torch.zeros(2) for name in ("v_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq")}
    change(llm_folder, lambda weights: weights.update(extra))
    assert load_llm(str(llm_folder), "float32").config.model_type == "qwen3"


@pytest.mark.parametrize("family", ["bert", "whisper", "siglip_vision_model", "t5"])
def test_a_part_that_is_no_language_model_is_told_before_its_weights_are_read(tmp_path, family):
    AutoConfig.for_model(family).save_pretrained(tmp_path / "part")
    with pytest.raises(PartError, match=f"part: is of family '{family}', which is no causal language model; name one"):
        load_llm(str(tmp_path / "part"), "float32")


_LOAD = """
import resource, sys
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from epo.model.parts import load_llm
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
load_llm(sys.argv[2], "float32")  # all that a first load imports
before = peak()
llm = load_llm(sys.argv[1], sys.argv[3])
print(sum(p.numel() * p.element_size() for p in llm.parameters()) / 2**20, peak() - before)
"""


@pytest.mark.slow
def test_a_large_language_model_is_never_held_twice(tmp_path):
    """The shape of an 8B Llama with fewer layers and an eighth of the width: peak memory against its weights."""
    sizes = {"hidden_size": 512, "intermediate_size": 1792, "num_attention_heads": 4, "num_key_value_heads": 1}
    config = LlamaConfig(**sizes, num_hidden_layers=24, vocab_size=16000, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "large", max_shard_size="60MB")
    assert (tmp_path / "large" / "model.safetensors.index.json").is_file()
    small = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    LlamaForCausalLM(small).save_pretrained(tmp_path / "small")
    for dtype in ("bfloat16", "float32"):
        command = [sys.executable, "-c", _LOAD, str(tmp_path / "large"), str(tmp_path / "small"), dtype]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        weights_mib, peak_mib = map(float, done.stdout.split())
        assert weights_mib > 150 and peak_mib < 1.3 * weights_mib, dtype


def test_an_adapter_is_read_whole_or_not_at_all(make_model, tmp_path):
    def model():
        return make_model()[0]

    policy = get_peft_model(model(), lora_config(model(), 4, 8, 0.0))
    policy.save_pretrained(tmp_path / "epo")
    config = json.loads((tmp_path / "epo/adapter_config.json").read_text())
    config["base_model_name_or_path"] = "moved/elsewhere"
    (tmp_path / "epo/adapter_config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT would ask a model hub for a base that is not there
        assert isinstance(load_adapter(model(), str(tmp_path / "epo")), PeftModel)
    with pytest.raises(PartError, match="none: has no adapter_model.safetensors; make it with launch/epo.py"):
        load_adapter(model(), str(tmp_path / "none"))
    file = tmp_path / "epo" / "adapter_model.safetensors"
    weights = load_file(file)
    lost = sorted(weights)[0]
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(PartError, match=rf"1 weights are missing or left over \({lost}"):
        load_adapter(model(), str(tmp_path / "epo"))
    save_file(weights | {lost: torch.zeros(4, 3)}, file, metadata={"format": "pt"})
    with pytest.raises(PartError, match="does not fit the model"):
        load_adapter(model(), str(tmp_path / "epo"))


def test_pickles_are_not_read(llm_folder):
    torch.save(load_file(llm_folder / "model.safetensors"), llm_folder / "pytorch_model.bin")
    (llm_folder / "model.safetensors").unlink()
    with pytest.raises(PartError, match="has no .safetensors, and pickles are not read; save it anew as safetensors"):
        load_llm(str(llm_folder), "float32")


def test_a_tower_that_names_its_weights_otherwise_is_told(encoders, monkeypatch):
    """It would be trained from random weights otherwise."""
    tower = load_weights(AutoModel, str(encoders[1]))
    tower.vision_model = torch.nn.ModuleDict({"layers": tower.encoder})
    monkeypatch.setattr(
        parts, "load_weights", lambda auto, part: tower if "siglip" in part else load_weights(auto, part)
    )
    with pytest.raises(PartError, match=r"siglip: \d+ weights are not as its config says: e.* is missing"):
        build_extractor(*map(str, encoders), SIZES)


def test_a_file_that_was_cut_off_is_told(llm_folder):
    file = llm_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PartError, match="llm: its safetensors are damaged .*; get it anew"):
        load_llm(str(llm_folder), "float32")


def test_a_folder_that_is_none_is_still_told_as_such(tmp_path):
    with pytest.raises(PartError, match="neither a folder nor a reachable hub name holds this part"):
        load_llm(str(tmp_path / "nothing"), "float32")

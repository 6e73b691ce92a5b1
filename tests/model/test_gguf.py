"""Language models in one `.gguf` file: the very scores and tokens of the model that it was made from."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from epo.extras import MissingExtraError
from epo.model.parts import load_llm, load_tokenizer
from epo.part_names import PartError

_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_OF_A_LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_HEADS = 2


@pytest.fixture
def llama(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
    config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=_HEADS, num_key_value_heads=_HEADS, **sizes)
    return LlamaForCausalLM(config).eval()


def write(path, llama, tokenizer):
    """Write a Llama as llama.cpp's converter does: other names, queries and keys with their halves interleaved."""
    gguf = pytest.importorskip("gguf", reason="reading .gguf files is an extra: pip install 'epo-trainer[gguf]'")
    config, writer = llama.config, gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get))
    writer.add_token_types([1] * len(tokenizer))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in llama.state_dict().items():
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            rows = len(values) // _HEADS // 2
            values = values.reshape(_HEADS, 2, rows, -1).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(_their_name(name.removesuffix(".weight")), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _their_name(name):
    if name in _NAMES:
        return f"{_NAMES[name]}.weight"
    _, _, layer, inside = name.split(".", 3)
    return f"blk.{layer}.{_OF_A_LAYER[inside]}.weight"


@torch.no_grad()
def test_a_gguf_file_is_the_model_it_was_made_from(llama, tokenizer, tmp_path, monkeypatch):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    write(tmp_path / "models" / "tiny" / "tiny-f32.gguf", llama, tokenizer)
    monkeypatch.setenv("EPO_PARTS_ROOT", str(tmp_path / "models"))
    ids = torch.arange(12)[None]
    for name in (str(tmp_path / "models" / "tiny" / "tiny-f32.gguf"), "owner/Tiny/tiny-f32.gguf"):
        llm, words = load_llm(name, "float32"), load_tokenizer(name, ())
        torch.testing.assert_close(llm(ids).logits, llama(ids).logits)
        assert words("I met Mira.").input_ids == tokenizer("I met Mira.").input_ids
        assert words.chat_template == tokenizer.chat_template and words.eos_token == tokenizer.eos_token
    assert load_llm(name, "bfloat16").dtype == torch.bfloat16


def test_what_is_no_gguf_file_is_told_in_one_line(tmp_path):
    pytest.importorskip("gguf", reason="reading .gguf files is an extra: pip install 'epo-trainer[gguf]'")
    (tmp_path / "bad.gguf").write_bytes(b"no such thing" * 9)
    for name, reason in (("bad", "magic"), ("gone", "gone.gguf")):
        with pytest.raises(PartError, match=f"{name}.gguf: this folder does not hold the part .*{reason}") as caught:
            load_llm(str(tmp_path / f"{name}.gguf"), "float32")
        assert "\n" not in str(caught.value)


def test_without_its_package_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="m.gguf needs gguf, .* pip install 'epo-trainer.gguf.'"):
        load_llm(str(tmp_path / "m.gguf"), "float32")

"""Tiny parts of a model, as the config files that recipes name."""

import json

import pytest

_PARTS = {
    "llm": {
        "model_type": "qwen3", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    },
    "whisper": {
        "model_type": "whisper", "num_mel_bins": 16, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "max_source_positions": 1500,
    },
    "siglip": {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8, "vision_use_head": False,
    },
    "mamba2": {
        "model_type": "mamba2", "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 16,
        "num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8,
        "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
    },
}  # fmt: skip


@pytest.fixture
def part(tmp_path):
    """The path of a tiny part's config file."""

    def part(name):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(_PARTS[name]))
        return str(path)

    return part

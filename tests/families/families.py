"""Tiny language models of the families of transformers, for the architecture matrix; each takes seconds to try."""

from typing import Any

SMALL = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": 1,
    "pad_token_id": 0,
}  # fmt: skip
GPT = {
    "vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
FALCON = {name: value for name, value in SMALL.items() if name != "head_dim"}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip

VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8, "vision_use_head": False,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SMALL),
    "llama, llama3 rope": ("llama", SMALL | {"rope_parameters": LLAMA3}),
    "llama, yarn rope": ("llama", SMALL | {"rope_parameters": YARN}),
    "qwen2": ("qwen2", SMALL),
    "qwen3": ("qwen3", SMALL | {"tie_word_embeddings": True}),
    "gemma": ("gemma", SMALL),
    "gemma2": ("gemma2", SMALL | {"sliding_window": 12, "query_pre_attn_scalar": 16, "final_logit_softcapping": 3.0}),
    "gemma3": ("gemma3_text", SMALL | {"sliding_window": 12, "sliding_window_pattern": 2}),
    "mistral, window": ("mistral", SMALL | {"sliding_window": 12}),
    "phi": ("phi", SMALL),
    "phi3, longrope": ("phi3", SMALL | {"rope_parameters": LONG, "original_max_position_embeddings": 64}),
    "gpt2": ("gpt2", GPT),
    "gpt_neox": ("gpt_neox", SMALL),
    "gptj": ("gptj", GPT | {"rotary_dim": 8}),
    "olmo2": ("olmo2", SMALL),
    "smollm3": ("smollm3", SMALL),
    "starcoder2, window": ("starcoder2", SMALL | {"sliding_window": 12}),
    "granite": ("granite", SMALL | {"logits_scaling": 4.0, "embedding_multiplier": 3.0}),
    "cohere": ("cohere", SMALL | {"logit_scale": 0.25}),
    "falcon": ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, alibi": ("falcon", FALCON | {"alibi": True}),
    "opt": ("opt", SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32, "hidden_size": 48}),
    "mixtral": ("mixtral", SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", SMALL | EXPERTS | {"num_experts": 4}),
    "falcon_h1": ("falcon_h1", SMALL | MAMBA | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.5}),
    "bamba": ("bamba", SMALL | MAMBA | {"mamba_expand": 2, "attn_layer_indices": [1]}),
    "lfm2": ("lfm2", SMALL | {"layer_types": ["conv", "full_attention"]}),
    "qwen3_next": (
        "qwen3_next",
        SMALL | LINEAR | EXPERTS | {
            "num_experts": 4, "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "mamba2": (
        "mamba2",
        {
            "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 16, "num_heads": 4,
            "head_dim": 16, "expand": 2, "n_groups": 1, "chunk_size": 8, "bos_token_id": None, "eos_token_id": 1,
            "pad_token_id": 0,
        },
    ),
    "bloom": ("bloom", {"vocab_size": 320, "hidden_size": 32, "n_layer": 2, "n_head": 2, "eos_token_id": 1}),
    "gemma3n": (
        "gemma3n_text",
        SMALL | {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 320,
                 "activation_sparsity_pattern": [0.0, 0.0], "layer_types": ["sliding_attention", "full_attention"],
                 "sliding_window": 12, "altup_num_inputs": 2, "laurel_rank": 8},
    ),
    "rwkv": ("rwkv", {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": 1}),
}  # fmt: skip

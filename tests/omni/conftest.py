"""A tiny thinker of Qwen2.5-Omni: 2 layers x 32, towers of one layer, a tokenizer with its marks; built in code."""

from collections.abc import Callable
from typing import Any

import pytest

_CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are kind.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def make_omni_tokenizer(make_tokenizer: Callable[[], Any]) -> Callable[[], Any]:
    """The corpus's tokenizer with ChatML, a system message by default and the marks of clips, as the checkpoint has."""
    from epo.prompts.parts.omni_clip import MARKS

    def make() -> Any:
        tokenizer = make_tokenizer()
        marks = ["<|im_start|>", "<|im_end|>", "<|IMAGE|>", *MARKS]
        tokenizer.add_special_tokens({"extra_special_tokens": marks}, replace_extra_special_tokens=False)
        tokenizer.chat_template, tokenizer.eos_token = _CHATML, "<|im_end|>"
        return tokenizer

    return make


@pytest.fixture
def make_thinker(make_omni_tokenizer: Callable[[], Any]) -> Callable[..., Any]:
    """Build the stock class from a seed; keyword arguments change the configuration of its text model."""
    import torch
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    tokenizer = make_omni_tokenizer()
    names = {
        "audio_token_index": "<|AUDIO|>", "image_token_index": "<|IMAGE|>", "video_token_index": "<|VIDEO|>",
        "audio_start_token_id": "<|audio_bos|>", "audio_end_token_id": "<|audio_eos|>",
        "vision_start_token_id": "<|vision_bos|>", "vision_end_token_id": "<|vision_eos|>",
    }  # fmt: skip
    audio = {
        "num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16,
        "output_dim": 32, "n_window": 30, "max_source_positions": 100,
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4, "window_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "fullatt_block_indexes": [0],
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024, "eos_token_id": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        "pad_token_id": 0, "bos_token_id": None, "tie_word_embeddings": False,
    }  # fmt: skip

    def make(seed: int = 0, **changes: Any) -> Any:
        torch.manual_seed(seed)
        ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in names.items()}
        config = Qwen2_5OmniThinkerConfig(
            audio_config=audio, vision_config=vision, text_config=text | changes, position_id_per_seconds=25, **ids
        )
        thinker = Qwen2_5OmniThinkerForConditionalGeneration(config)
        for parameter in thinker.parameters():  # ten times the usual spread, so that replies do not look alike
            if parameter.dim() > 1:
                parameter.data.mul_(10)
        return thinker.eval()

    return make


@pytest.fixture
def omni_processor(make_omni_tokenizer: Callable[[], Any]) -> Any:
    """A processor that fits `make_thinker`: frames of 16 x 16, 4 tokens for two of them."""
    from transformers import Qwen2VLImageProcessorPil, WhisperFeatureExtractor

    from epo.model.omni.processing import OmniProcessor

    pictures = Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=1024)
    sound = WhisperFeatureExtractor(feature_size=16, chunk_length=300)
    return OmniProcessor(sound, pictures, make_omni_tokenizer(), max_audio_seconds=4.0, max_frame_pixels=16 * 16)


@pytest.fixture
def omni_build(omni_processor: Any, clip_cache: Any) -> Any:
    """What makes its prompts."""
    from epo.training.collate import PromptBuilder

    return PromptBuilder(omni_processor, clip_cache)

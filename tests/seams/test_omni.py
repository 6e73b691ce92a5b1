"""What Qwen2.5-Omni's thinker of transformers gives for clips, and where it places tokens."""

import pytest
import torch
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

AUDIO, IMAGE, VIDEO, AUDIO_BOS, AUDIO_EOS, VISION_BOS = range(20, 26)


@pytest.fixture(scope="module")
def thinker():
    torch.manual_seed(0)
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 8, "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 8, "d_model": 8,
            "output_dim": 16, "max_source_positions": 100,
        },
        vision_config={
            "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "patch_size": 2, "window_size": 8,
            "out_hidden_size": 16, "fullatt_block_indexes": [0],
        },
        text_config={
            "vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        audio_token_index=AUDIO, image_token_index=IMAGE, video_token_index=VIDEO, audio_start_token_id=AUDIO_BOS,
        audio_end_token_id=AUDIO_EOS, vision_start_token_id=VISION_BOS,
    )  # fmt: skip
    return Qwen2_5OmniThinkerForConditionalGeneration(config).eval()


@pytest.mark.seam("omni_towers")
@torch.no_grad()
def test_vectors_of_clips(thinker):
    """9 and 4 mel frames are 2 + 1 tokens; a grid of 2 x 4 patches is 2, two of 2 x 2 are 2."""
    mask = (torch.arange(9) < torch.tensor([[9], [4]])).long()
    heard = thinker.get_audio_features(torch.randn(2, 8, 9), mask, return_dict=True)
    assert heard.last_hidden_state.shape == (3, 16)
    grids = torch.tensor([[1, 2, 4], [2, 2, 2]])
    seen = thinker.get_video_features(torch.randn(16, 3 * 2 * 2 * 2), grids, return_dict=True)
    assert [tuple(clip.shape) for clip in seen.pooler_output] == [(2, 16), (2, 16)]
    names = [type(module).__name__ for module in thinker.modules()]
    assert names.count("Qwen2_5OmniThinkerTextModel") == 1


@pytest.mark.seam("omni_positions")
def test_positions_of_text_after_a_clip(thinker):
    """Two grids half a second apart at 25 positions a second: 2 and 14 in time, and the next token at 15."""
    ids = torch.tensor([[5, VISION_BOS, VIDEO, VIDEO, 6, 7, 0]])
    found, _ = thinker.get_rope_index(
        ids, None, torch.tensor([[2, 2, 2]]), (ids > 0).long(), False,
        audio_seqlens=None, second_per_grids=torch.tensor([0.5]),
    )  # fmt: skip
    assert found[:, 0, :6].tolist() == [[0, 1, 2, 14, 15, 16], [0, 1, 2, 2, 15, 16], [0, 1, 2, 2, 15, 16]]

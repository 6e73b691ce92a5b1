"""Scores of replies by Qwen2.5-Omni's thinker: clips encoded once a pair, prompts read once where they may be."""

import functools
import types
from typing import Any

import torch
from torch import Tensor, nn

from compressor.placeholders import PlaceholderError, fill_placeholders
from compressor.text import IGNORE
from epo.model.shared_prompt import Mask, PackedPairs, pack, pair_masks
from epo.model.token_scores import TokenScores, token_scores

CLIP_KEYS = (
    "input_features",
    "feature_attention_mask",
    "pixel_values_videos",
    "video_grid_thw",
    "video_second_per_grid",
)
"""Inputs beside the prompt, those of the thinker's own forward: what `encode_clips` reads."""


def language_model(thinker: nn.Module) -> tuple[str, Any]:
    """Return the name and the module of the text model inside a thinker, wherever a version of transformers has it."""
    return next(
        (name, module)
        for name, module in thinker.named_modules()
        if type(module).__name__ == "Qwen2_5OmniThinkerTextModel"
    )


@torch.no_grad()
def encode_clips(thinker: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Run the towers over a batch's clips and place its tokens in time.

    Args:
        thinker: `Qwen2_5OmniThinkerForConditionalGeneration`.
        batch: `input_ids`, `attention_mask`, `CLIP_KEYS`, and `prompt_lengths` where its rows are pairs.

    Returns:
        `positions` int64 (3, rows, T); `audio` (A, D) and `video` (N, D), the vectors of all clips, of none 0 rows.

    Raises:
        PlaceholderError: placeholders and vectors differ in number.
    """
    ids, times = batch["input_ids"], 2 if batch.get("prompt_lengths") is not None else 1
    context = {"audio": _encode_sound(thinker, batch), "video": _encode_pictures(thinker, batch)}
    _require_as_many(thinker.config, ids, context, times)
    mel_frames = grids = seconds = None
    if "input_features" in batch:
        mel_frames = batch["feature_attention_mask"].sum(dim=1).repeat(times)
    if "pixel_values_videos" in batch:
        grids, seconds = batch["video_grid_thw"].repeat(times, 1), batch["video_second_per_grid"].repeat(times)
    positions, _ = thinker.get_rope_index(
        ids, None, grids, batch["attention_mask"], False, audio_seqlens=mel_frames, second_per_grids=seconds
    )
    return context | {"positions": positions.to(ids.device)}


def _encode_sound(thinker: Any, batch: dict[str, Any]) -> Tensor:
    """Return (A, D); where no clip has sound, a dummy goes through the tower, so that all ranks run the same layers."""
    features, mask = batch.get("input_features"), batch.get("feature_attention_mask")
    is_absent = features is None
    if features is None:
        features = torch.zeros(1, thinker.config.audio_config.num_mel_bins, 4, device=thinker.device)
        mask = torch.ones(1, 4, dtype=torch.long, device=thinker.device)
    vectors: Tensor = thinker.get_audio_features(features, mask, return_dict=True).last_hidden_state
    return vectors[:0] if is_absent else vectors


def _encode_pictures(thinker: Any, batch: dict[str, Any]) -> Tensor:
    """Return (N, D); where no clip has pictures, a dummy goes through the tower."""
    patches, grids = batch.get("pixel_values_videos"), batch.get("video_grid_thw")
    is_absent = patches is None
    if patches is None:
        config = thinker.config.vision_config
        side, size = config.spatial_merge_size, config.temporal_patch_size * config.patch_size**2
        patches = torch.zeros(side**2, config.in_channels * size, device=thinker.device)
        grids = torch.tensor([[1, side, side]], device=thinker.device)
    vectors = torch.cat(list(thinker.get_video_features(patches, grids, return_dict=True).pooler_output))
    return vectors[:0] if is_absent else vectors


def _require_as_many(config: Any, input_ids: Tensor, context: dict[str, Tensor], times: int) -> None:
    """Compare placeholders and vectors: on a mismatch the search for positions would fail without saying so."""
    for name, token_id in (("audio", config.audio_token_id), ("video", config.video_token_id)):
        num_places, num_vectors = int((input_ids == token_id).sum()), times * len(context[name])
        if num_places != num_vectors:
            raise PlaceholderError(
                f"{num_places} placeholders of id {token_id} but {num_vectors} vectors; prompt and features were made "
                "with different settings, or truncation cut a placeholder"
            )


def prepare_scoring(thinker: Any) -> None:
    """Give a thinker a forward that scores labels where `fused_lm_head` asks for it, and is the stock one elsewhere."""
    vars(thinker).pop("forward", None)
    stock = thinker.forward
    if not hasattr(thinker, "shares_prompts"):
        thinker.shares_prompts = thinker.tokens_per_row = None

    @functools.wraps(type(thinker).forward)  # `generate` checks its arguments against this signature
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        return score_labels(self, **kwargs) if fused_lm_head else stock(*args, **kwargs)

    thinker.forward = types.MethodType(forward, thinker)


def score_labels(
    thinker: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    prompt_lengths: Tensor | None = None,
    context: dict[str, Tensor] | None = None,
    **inputs: Any,
) -> TokenScores:
    """Score the labelled tokens of rows of prompt and reply.

    Args:
        thinker: `Qwen2_5OmniThinkerForConditionalGeneration`.
        input_ids: int64 (B, T), right-padded.
        attention_mask: int64 (B, T), 1 on real tokens.
        labels: int64 (B, T), `IGNORE` where nothing is scored.
        prompt_lengths: int64 (B / 2,); given, the second half of the rows are rejected replies to the prompts of the
            first half, whose clips come once a pair.
        context: of `encode_clips`, instead of the clips.
        inputs: the clips, under the names of `CLIP_KEYS`; others are left aside.

    Raises:
        PlaceholderError: placeholders and vectors of clips differ in number.
    """
    if context is None:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "prompt_lengths": prompt_lengths}
        context = encode_clips(thinker, batch | {key: inputs[key] for key in CLIP_KEYS if key in inputs})
    masks: Mask | dict[str, Mask] = attention_mask
    positions, times = context["positions"], 1
    places = labels[:, 1:] != IGNORE
    rows, columns = places.nonzero(as_tuple=True)
    targets = labels[rows, columns + 1]
    packed = pack(thinker, input_ids, attention_mask, prompt_lengths)
    if packed is not None:
        positions = _packed_positions(positions, attention_mask, packed)
        masks = pair_masks(packed, language_model(thinker)[1].config, thinker.dtype)
        rows, columns = packed.row[rows, columns], packed.source[rows, columns]
        input_ids = packed.input_ids
    elif prompt_lengths is not None:
        times = 2
    embeds = thinker.get_input_embeddings()(input_ids)
    for name, token_id in (("audio", thinker.config.audio_token_id), ("video", thinker.config.video_token_id)):
        vectors = context[name].repeat(times, 1)
        is_real = torch.ones(1, len(vectors), dtype=torch.bool, device=vectors.device)
        embeds = fill_placeholders(embeds, input_ids, token_id, vectors.unsqueeze(0), is_real)
    embeds = embeds if packed is None else packed.laid(embeds)
    _, reader = language_model(thinker)
    states = reader(inputs_embeds=embeds, attention_mask=masks, position_ids=positions, use_cache=False)
    logits = thinker.get_output_embeddings()(states.last_hidden_state[rows, columns]).float()
    return token_scores(logits, targets, places)


def _packed_positions(positions: Tensor, attention_mask: Tensor, packed: PackedPairs) -> Tensor:
    """Return where packed tokens stand in time and picture: where they stand in their own rows.

    Args:
        positions: int64 (3, 2B, T), of the rows apart.
        attention_mask: int64 (2B, T).
        packed: of these rows, R of L tokens.

    Returns:
        int64 (3, R, L).
    """
    found = positions.new_zeros(3, *packed.position_ids.shape)
    rows, columns = attention_mask.nonzero(as_tuple=True)
    found[:, packed.row[rows, columns], packed.source[rows, columns]] = positions[:, rows, columns]
    return found

"""What each recipe key means for a result: the one table behind "done", "resume" and "changed"."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from launch.keys.recipe_file import RecipeError

Role = Literal["matters", "file", "part", "corpus", "layout", "cosmetic"]
"""Role of a key.

matters: another value is another result.
file: names a file of data; its content matters, not its name.
part: names a trained part (a folder, a config file, or a hub name); its content matters, not its name.
corpus: names a folder to import from; what lies in it matters, not its name.
layout: how a batch is spread over ranks and memory. The result is the same up to rounding, so a finished stage stays
    finished; but a checkpoint is resumed only in the layout that wrote it, ranks and micro-batches aside.
cosmetic: where results go, what is shown and how fast: changes nothing that is learnt.
"""

_FILES = ("data", "voices", "pairs", "answers", "vad", "judge_data", "descriptions", "transcripts")

_PARTS = (
    "llm", "extractor", "compressor", "model", "models", "chat_models", "sft", "control", "epo",
    "audio_encoder", "vision_tower", "backbone", "face_detector",
    "emotion_judge", "judge_embeddings", "coherence_model", "bert_score_model",
    "cascade", "cascade_extractor", "vad_extractor",
    "labels", "values",  # a label map by its name, or a file
)  # fmt: skip

_LAYOUT = (
    "num_ranks", "per_device_train_batch_size", "gradient_accumulation_steps",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "activation_checkpointing", "activation_offloading",
    "deepspeed", "fsdp", "fsdp_config", "accelerator_config", "parallelism_config",
    "use_cpu", "local_rank", "ddp_backend", "ddp_find_unused_parameters", "ddp_bucket_cap_mb",
    "ddp_broadcast_buffers", "ddp_timeout", "ddp_static_graph", "tpu_num_cores",
    "torch_compile", "torch_compile_backend", "torch_compile_mode", "batch_size", "tokens_per_row",
    "flex_attention",
)  # fmt: skip

_COSMETIC = (
    # of the project's own recipes
    "run", "output_dir", "fresh", "pipeline", "experiment", "cache_dir", "judge_cache", "reference_cache",
    "encoder_cache", "parts_root", "workers",
    # of transformers' TrainingArguments and TRL's DPOConfig
    "run_name", "project", "report_to", "trackio_space_id", "disable_tqdm", "resume_from_checkpoint",
    "log_level", "log_level_replica", "log_on_each_node",
    "logging_dir", "logging_strategy", "logging_first_step", "logging_steps", "logging_nan_inf_filter",
    "save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node",
    "restore_callback_states_from_checkpoint", "enable_jit_checkpoint",
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "do_train", "do_eval", "do_predict",
    "per_device_eval_batch_size", "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object",
    "prediction_loss_only", "batch_eval_metrics", "include_for_metrics", "include_num_input_tokens_seen",
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "dataset_num_proc", "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo",
    "hub_always_push", "hub_revision", "skip_memory_metrics", "debug", "torch_empty_cache_steps",
)  # fmt: skip

ROLES: dict[str, Role] = {
    **dict.fromkeys(_FILES, "file"),
    **dict.fromkeys(_PARTS, "part"),
    "root": "corpus",
    **dict.fromkeys(_LAYOUT, "layout"),
    **dict.fromkeys(_COSMETIC, "cosmetic"),
}


def role_of(key: str, own_roles: Mapping[str, Role] | None = None) -> Role:
    """Return the role of a recipe key; what neither its own class nor the table says matters.

    Args:
        key: of a recipe.
        own_roles: of `own_roles`, for the classes of the recipe.
    """
    return {**ROLES, **({} if own_roles is None else own_roles)}.get(key, "matters")


def own_roles(types: Iterable[type[Any]]) -> dict[str, Role]:
    """Return the roles that fields of dataclasses give themselves, as `role` in their metadata.

    So a pair source or an evaluation suite of another package says all about its keys itself.

    Raises:
        RecipeError: there is no such role.
    """
    found: dict[str, Role] = {}
    for type_ in types:
        for field in dataclasses.fields(type_):
            role = field.metadata.get("role")
            if role is not None and role not in get_args(Role):
                raise RecipeError(
                    f"{type_.__name__}.{field.name}: its role is {role!r}, want one of {', '.join(get_args(Role))}"
                )
            if role is not None:
                found[field.name] = role
    return found


__all__ = ["ROLES", "Role", "own_roles", "role_of"]

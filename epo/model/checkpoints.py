"""Weights of a part: all of them and no others, from safetensors alone, in the dtype asked for, held once."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from torch import nn

from compressor.seams import weights_read_at_once
from epo.part_names import PartError, PartPlace, find_part, read_part

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_RESIZED, _MISSING, _LEFT_OVER = "is of another size", "is missing", "has no place in it"

# What a checkpoint may hold beside the module that is loaded: heads, decoders and quantizers of its own training, and
# causal masks and frequencies that older versions of transformers saved.
_HEADS = (
    "lm_head", "embed_out", "output", "head", "heads", "score", "classifier", "classification_head", "qa_outputs",
    "cls", "predictions", "pooler", "v_head", "mtp", "decoder", "proj_out", "projector", "project_q", "project_hid",
    "quantizer", "final_proj", "label_embs_concat", "adapter", "text_model", "text_projection", "visual_projection",
    "logit_scale", "logit_bias", "position_ids",
)  # fmt: skip
_BUFFERS = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias",
            "embeddings.position_ids", "num_batches_tracked")  # fmt: skip


@runtime_checkable
class _HoldsStill(Protocol):
    """A module some of whose weights never train. `from_pretrained` lets all of them, so it is asked again."""

    def hold_still(self) -> None: ...


def load_weights(auto: Any, part: str, dtype: str = "float32", is_ours: bool = False, **settings: Any) -> Any:
    """Return a model with all of its weights, read from safetensors.

    Args:
        auto: `AutoModel`, or another class with `from_pretrained`.
        part: hub name (`epo.part_names`) or folder.
        dtype: of the weights, whatever they were saved in; float32 for parts that train.
        is_ours: whether a stage of this project wrote it, so that nothing may be left over; files of others may hold
            heads and decoders that are not used here, but nothing else.
        settings: further arguments of the class.

    Raises:
        PartError: the part cannot be found or is damaged, or has weights missing, resized, left over, or as pickles.
    """
    place = find_part(part)
    settings |= {"dtype": DTYPES[dtype], "use_safetensors": True, "output_loading_info": True}
    settings["ignore_mismatched_sizes"] = True  # told below, in one line
    try:
        with nullcontext() if _is_saved_in(place, dtype) else weights_read_at_once():
            model, found = read_part(auto.from_pretrained, place, **settings)
    except PartError as error:
        if "safetensors" not in str(error):
            raise
        raise PartError(
            f"{part}: has no .safetensors, and pickles are not read; save it anew as safetensors"
        ) from error
    except SafetensorError as error:
        raise PartError(f"{part}: its safetensors are damaged ({error}); get it anew") from error
    resized = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    left_over = [key for key in found["unexpected_keys"] if is_ours or not _is_known_extra(key, model)]
    require_all(part, resized, found["missing_keys"], left_over)
    for module in model.modules():
        if isinstance(module, _HoldsStill):
            module.hold_still()
    return model


def copy_weights(source: nn.Module, target: nn.Module, part: str) -> None:
    """Copy all weights of a part into the module that was made for it.

    Raises:
        PartError: they do not fit.
    """
    found = target.load_state_dict(source.state_dict(), strict=False)
    require_all(part, (), found.missing_keys, found.unexpected_keys)


def require_all(part: str, resized: Iterable[str], missing: Iterable[str], left_over: Iterable[str]) -> None:
    """Refuse weights that are not as a part's config says.

    Raises:
        PartError: names the first of them and how many they are.
    """
    for fault, names in ((_RESIZED, sorted(resized)), (_MISSING, sorted(missing)), (_LEFT_OVER, sorted(left_over))):
        if names:
            raise PartError(f"{part}: {len(names)} weights are not as its config says: {names[0]} {fault}; get it anew")


def _is_known_extra(key: str, model: nn.Module) -> bool:
    """Tell whether a weight that has no place in a model belongs to another head, or is no weight."""
    inside = key.removeprefix(f"{getattr(model, 'base_model_prefix', '')}.")
    top = inside.partition(".")[0]
    own = {name for name, _ in model.named_children()} | {name for name, _ in model.named_parameters(recurse=False)}
    return key.endswith(_BUFFERS) or (top in _HEADS and top not in own)


def _is_saved_in(place: PartPlace, dtype: str) -> bool:
    """Tell whether a part says that its weights are saved in a dtype; they are then used as they lie, mapped."""
    from transformers import AutoConfig

    if place.file is not None:
        return True
    config = read_part(AutoConfig.from_pretrained, place)
    return bool(getattr(config, "dtype", None) in (dtype, DTYPES[dtype]))


__all__ = ["DTYPES", "copy_weights", "load_weights", "require_all"]

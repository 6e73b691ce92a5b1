"""What the project asks of a causal language model of transformers: to read embeddings, and to score some positions.

The model is kept whole, as its `...ForCausalLM`, so that its own head, scales, caps, biases and generation rules apply.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compressor.precision import cast_weights


class LanguageModelError(ValueError):
    """A language model that cannot do what the project asks of one; names its family and a remedy."""


def embed_words(llm: PreTrainedModel, ids: Tensor) -> Tensor:
    """Return the embeddings of ids as the model itself would read them, in float32 and without gradient.

    Called and not read as a weight: some families scale their embeddings inside that module.

    Args:
        llm: the language model.
        ids: int64 of any shape.
    """
    with torch.no_grad():
        embeds: Tensor = llm.get_input_embeddings()(ids.to(llm.device)).float()
        return embeds


def embedding_std(llm: PreTrainedModel) -> float:
    """Return the standard deviation of all token embeddings, the scale of whatever stands beside them."""
    return embed_words(llm, torch.arange(llm.get_input_embeddings().num_embeddings)).std().item()


def logits_at(llm: PreTrainedModel, columns: Tensor | None, **inputs: Any) -> Tensor:
    """Return a language model's scores at some columns, (B, C, V).

    Args:
        llm: the language model.
        columns: int64 (C,), which positions; None for all.
        inputs: of its forward.
    """
    if columns is not None and "logits_to_keep" in inspect.signature(llm.forward).parameters:
        inputs["logits_to_keep"], columns = columns, None
    logits: Tensor = llm(**inputs).logits
    return logits if columns is None else logits[:, columns]


def logits_of(llm: PreTrainedModel, rows: Tensor, columns: Tensor, **inputs: Any) -> Tensor:
    """Return a language model's scores at some positions, (N, V), its head run on no others.

    The head stays the model's own: only what it is given is narrowed, so that whatever a family does before and after
    it (scales, caps, biases) applies. A family that does not call its head as a module scores whole columns.

    Args:
        llm: the language model.
        rows: int64 (N,), which row of the batch each position is in.
        columns: int64 (N,), which column.
        inputs: of its forward.
    """
    count = len(rows)
    if count == 0:  # the head must run on every rank alike
        rows = columns = rows.new_zeros(1)
    if "logits_to_keep" in inspect.signature(llm.forward).parameters:
        inputs["logits_to_keep"], columns = columns.unique(return_inverse=True)
    # The last token of a shared prompt is scored twice. Run once, it rounds as in a head over whole columns.
    width = columns.max() + 1
    places, which = (rows * width + columns).unique(return_inverse=True)  # of one number: of two it is slow
    places = torch.stack([places // width, places % width])
    was_narrowed = False

    def narrow(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        nonlocal was_narrowed
        if not args:
            return None
        was_narrowed = True
        return args[0][places[0], places[1]].unsqueeze(0), *args[1:]

    hook = llm.get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        logits: Tensor = llm(**inputs).logits
    finally:
        hook.remove()
    return (logits[0, which] if was_narrowed else logits[rows, columns])[:count]


@torch.no_grad()
def require_supported(llm: PreTrainedModel) -> None:
    """Refuse a language model that gives other scores for embeddings than for the ids they belong to.

    Memories and clips enter as embeddings; a family that also looks at the ids, or at nothing but them, cannot read
    them. Tried on eight ids drawn from a fixed seed.

    Raises:
        LanguageModelError: names the family.
    """
    family = llm.config.model_type
    if llm.config.is_encoder_decoder:
        raise _unsupported(family, "it has an encoder of its own")
    count = llm.get_input_embeddings().num_embeddings
    ids = torch.randint(count, (1, 8), generator=torch.Generator().manual_seed(0)).to(llm.device)
    was_training = llm.training
    llm.eval()
    try:
        by_id = llm(input_ids=ids, use_cache=False).logits
        with torch.enable_grad():  # memories and clips are learnt through them
            embeds = llm.get_input_embeddings()(ids).detach().requires_grad_()
            by_embedding = llm(inputs_embeds=embeds, use_cache=False).logits
            torch.autograd.grad(by_embedding.sum(), embeds)
    except Exception as error:  # whatever a family does with inputs it was not written for
        raise _unsupported(family, f"it fails on embeddings: {error}") from error
    finally:
        llm.train(was_training)
    if not by_id.isfinite().all():
        raise _unsupported(family, "its scores are not finite: the checkpoint is damaged or lacks weights")
    gap = (by_id - by_embedding).abs().max().item()
    if not gap <= 1e-2 * max(1.0, by_id.abs().max().item()):
        raise _unsupported(family, f"its scores for embeddings are {gap:.2g} off those for the same words")


def _unsupported(family: str, reason: str) -> LanguageModelError:
    reason = " ".join(reason.split())[:200]
    return LanguageModelError(
        f"language model family {family!r} is not supported: {reason}; take another one, docs/families.md lists those "
        "that were tried"
    )


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """Return the causal language model inside a multimodal one, which reads and scores text as the whole does.

    Args:
        model: a `...ForConditionalGeneration` whose text configuration is that of a causal language model.

    Raises:
        LanguageModelError: transformers has no causal language model of that configuration, or the weights differ.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    family, config = model.config.model_type, model.config.get_text_config()
    try:
        with init_empty_weights(include_buffers=False):  # the weights are taken over, not copied
            llm = cast_weights(AutoModelForCausalLM.from_config(config), model.dtype)
        llm.get_decoder().load_state_dict(model.get_decoder().state_dict(keep_vars=True), assign=True)
        llm.get_output_embeddings().load_state_dict(
            model.get_output_embeddings().state_dict(keep_vars=True), assign=True
        )
        llm.tie_weights()
    except (ValueError, RuntimeError, AttributeError) as error:
        raise _unsupported(family, f"its text part cannot be taken out: {error}") from error
    return llm.eval()

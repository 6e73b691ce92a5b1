"""Full fine-tuning in EPO: all weights of the language model train, and the reference is what was scored before them.

A LoRA is switched off to ask the reference, and a second model beside the first takes as much memory again. Here the
reference is the model as it was loaded: it scores every pair before the first step, into a `ReferenceCache`, and is
gone with that step.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from peft import PeftModel
from transformers import Trainer

from compressor.precision import keep_trained_in_float32
from compressor.seams import gathered_state
from epo.model.family import family_of
from epo.model.low_rank import take_in_low_rank
from epo.model.quantized import is_quantized
from epo.model.saving import save_whole

Tune = Literal["lora", "all"]
"""What EPO trains of the language model: a LoRA on its linear layers, or all of its own weights."""


class FullTuningError(ValueError):
    """All weights cannot train so: names what is in the way, and the remedy."""


def known_tune(tune: str) -> Tune:
    """Return what is to be trained.

    Raises:
        FullTuningError: it is none of `Tune`.
    """
    for known in get_args(Tune):
        if tune == known:
            found: Tune = known
            return found
    raise FullTuningError(f"tune is {tune!r}, want one of {', '.join(map(repr, get_args(Tune)))}")


def require_full_tuning(model: Any, has_lora_config: bool, has_reference: bool) -> None:
    """Refuse to train all weights of a model where something is in the way.

    Args:
        model: to train.
        has_lora_config: whether a LoRA was asked for, too.
        has_reference: whether there is a `ReferenceCache`, or a second model.

    Raises:
        FullTuningError: in one line.
    """
    if has_lora_config or isinstance(model, PeftModel):
        raise FullTuningError(
            "tune is 'all', and a LoRA is given too, which would do nothing: leave it out, or tune: lora"
        )
    if is_quantized(model):
        raise FullTuningError(
            "tune is 'all', and weights held in few bits cannot train: load the model without quantize, or tune: lora"
        )
    if not has_reference:
        raise FullTuningError(
            "tune is 'all', and once training has moved the weights nothing else says what the reference made of the "
            "pairs: give reference_cache, a folder where its scores are kept"
        )


def prepare_for_full_tuning(model: Any, in_float32: bool) -> None:
    """Let all weights of the language model train, its embeddings and head too, and nothing else, in place.

    What trains is held in float32. A low-rank change that an earlier stage left beside a weight is added to it where
    the model is computed with in float32; in bfloat16 the sum would be rounded, so it stays beside and trains, too.

    Args:
        model: of any family, without a LoRA.
        in_float32: whether it is computed with in float32.
    """
    ours = set(family_of(model).language_model_weights(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name in ours)
    keep_trained_in_float32(model)
    if in_float32 and getattr(model.config, "low_rank", None):
        take_in_low_rank(model)
        model.config.low_rank = None


def save_fully_tuned(trainer: Trainer, folder: str | Path, processor: Any) -> None:
    """Write a model of which all weights of the language model trained, and its processor, as `load_of_family` reads.

    Every rank must call it; the first one writes.
    """
    state = gathered_state(trainer)
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.model
    if hasattr(model.config, "low_rank"):  # None says that float32 weights hold what rounding would lose
        model.config.low_rank = (model.config.low_rank or {}) if trainer.args.bf16 else None
    save_whole(model.config, state, Path(folder), processor)


__all__ = [
    "FullTuningError",
    "Tune",
    "known_tune",
    "prepare_for_full_tuning",
    "require_full_tuning",
    "save_fully_tuned",
]

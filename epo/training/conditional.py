"""How likely chosen replies are under another dialogue's clip: one more forward of policy and reference each."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compressor.text import IGNORE
from epo.training.objective import PairScores


def with_other_clips(
    scores: PairScores, model: Any, other: dict[str, Any], as_reference: Callable[[], AbstractContextManager[Any]]
) -> PairScores:
    """Return scores that also say how likely the chosen replies are with other clips in their prompts.

    Args:
        scores: of the batch.
        model: policy.
        other: of `other_prompts`, its clips and histories encoded once for both models.
        as_reference: opens the reference: what it yields is read without gradient.
    """
    inputs = {key: value for key, value in other.items() if key not in ("completion_mask", "has_other")}
    labels = other["input_ids"].masked_fill(other["completion_mask"] == 0, IGNORE)
    inputs |= {"labels": labels, "use_cache": False, "fused_lm_head": True}
    logps: Tensor = model(**inputs).log_probs.sum(dim=1)
    with torch.no_grad(), as_reference() as reference:
        base: Tensor = reference(**inputs).log_probs.sum(dim=1)
    return replace(scores, other_logps=logps, reference_other_logps=base, has_other=other["has_other"])


__all__ = ["with_other_clips"]

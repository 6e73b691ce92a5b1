"""How likely chosen replies are under another dialogue's clip: one more forward of policy and reference each."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from epo.training.collate import labelled
from epo.training.objective import PairScores


def with_other_clips(
    scores: PairScores, model: Any, other: dict[str, Any], reference_logps: Callable[[dict[str, Any]], Tensor]
) -> PairScores:
    """Return scores that also say how likely the chosen replies are with other clips in their prompts.

    Args:
        scores: of the batch.
        model: policy.
        other: of `other_prompts`, its clips and histories encoded once for both models.
        reference_logps: lets the reference read a batch without gradient, to (B,).
    """
    logps: Tensor = model(**labelled(other)).log_probs.sum(dim=1)
    return replace(
        scores, other_logps=logps, reference_other_logps=reference_logps(other), has_other=other["has_other"]
    )


__all__ = ["with_other_clips"]

"""In which ways a model reads pairs: those that spare work and were seen to change nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

from epo.model.family import Family
from epo.training.arguments import EpoArguments


def settle_reading(family: Family, model: Any, batch: dict[str, Any], args: EpoArguments) -> list[str]:
    """Let a model read each prompt once a pair, and as the settings want besides, where that changes nothing.

    Args:
        family: of the model.
        model: bare, in eval mode.
        batch: of `Family.encode_once`, to try it on.
        args: `tokens_per_row` and `flex_attention` are what they want.

    Returns:
        A line for each way in which it does not read, with the reason.
    """
    wanted: dict[str, Callable[[], str | None]] = {}
    if args.tokens_per_row is not None:
        wanted["tokens_per_row"] = partial(_tried, family, "pack_rows", model, batch, args.tokens_per_row)
    if args.flex_attention:
        wanted["flex_attention"] = partial(_tried, family, "attend_in_blocks", model, batch)
    reason = family.share_prompts(model, batch)
    if reason is not None:
        unused = "".join(f", and {key} does nothing" for key in wanted)
        return [f"each prompt is read twice a pair{unused}: {reason}"]
    reasons = {key: attempt() for key, attempt in wanted.items()}
    return [f"{key} does nothing: {reason}" for key, reason in reasons.items() if reason is not None]


def _tried(family: Family, way: str, *given: Any) -> str | None:
    """Try a way of reading; a family from outside may not know it."""
    attempt: Callable[..., str | None] | None = getattr(family, way, None)
    return f"the model's family has no {way}" if attempt is None else attempt(*given)


__all__ = ["settle_reading"]

"""Settings of the objective that cannot be, or that would do nothing beside the others: refused by name."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from epo.training.objective import TERMS
from epo.training.preference_losses import LOSSES


class ObjectiveError(ValueError):
    """Settings that make no objective; names the key."""


def check_objective(values: Mapping[str, Any]) -> None:
    """Refuse an objective that is none.

    Args:
        values: settings by name, those of `EpoArguments`.

    Raises:
        ObjectiveError: in one line, which key, what it is, and what is wanted.
    """
    _check_numbers(values)
    _check_loss(values)
    if values["anchor_weight"] == 0 and values["anchor_margin"] != 0:
        _refuse_idle("anchor_margin", "anchor_weight is 0", "set anchor_weight too")
    _check_terms(values["extra_terms"])
    reads_other = values["conditional_weight"] != 0 or any(TERMS.get(n).needs_other for n in values["extra_terms"])
    if not reads_other and values["conditional_swap"] != "both":
        _refuse_idle("conditional_swap", "conditional_weight is 0", "set conditional_weight too")


def _check_numbers(values: Mapping[str, Any]) -> None:
    for key in ("emotion_margin", "conditional_weight", "anchor_weight", "anchor_margin"):
        value, may_be_less = values[key], key == "anchor_margin"
        if not _is_finite(value) or (value < 0 and not may_be_less):
            raise ObjectiveError(f"{key} is {value!r}, want a finite number{'' if may_be_less else ', 0 or more'}")


def _check_loss(values: Mapping[str, Any]) -> None:
    name, smoothing = values["preference_loss"], values["label_smoothing"]
    if name == "sft":
        raise ObjectiveError("preference_loss is 'sft', which is EPO's term gold_nll: set alpha instead")
    if name not in LOSSES:
        near = difflib.get_close_matches(str(name), LOSSES, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise ObjectiveError(f"preference_loss is {name!r}{hint}, want one of TRL's: {', '.join(LOSSES)}")
    loss = LOSSES[name]
    for key, idle in (("label_smoothing", 0.0), ("discopop_tau", 0.05)):
        readers = ", ".join(other for other, one in LOSSES.items() if key in one.reads)
        if key not in loss.reads and values[key] != idle:
            _refuse_idle(key, f"preference_loss is {name}", f"set preference_loss to one that reads it: {readers}")
    if not _is_finite(smoothing) or not 0 <= smoothing < 0.5:
        raise ObjectiveError(f"label_smoothing is {smoothing!r}, want a share of flipped pairs from 0 to below 0.5")
    if name == "exo_pair" and smoothing == 0:
        raise ObjectiveError(
            "label_smoothing is 0.0, whose logarithm exo_pair takes: set it, to 0.001 as its paper does"
        )
    if not _is_finite(values["discopop_tau"]) or values["discopop_tau"] <= 0:
        raise ObjectiveError(f"discopop_tau is {values['discopop_tau']!r}, want a number above 0")
    if loss.of != "margin" and values["emotion_margin"] != 0:
        takers = ", ".join(other for other, one in LOSSES.items() if one.of == "margin")
        _refuse_idle(
            "emotion_margin",
            f"preference_loss {name} compares no margin of rewards",
            f"set preference_loss to one of {takers}",
        )
    if loss.per_token and values["length_normalised"]:
        _refuse_idle("length_normalised", f"preference_loss {name} compares log-probabilities a token anyway", "")


def _check_terms(extra: Any) -> None:
    if not isinstance(extra, dict):
        raise ObjectiveError(
            f"extra_terms is {extra!r}, want a mapping of terms to their weights, such as {{name: 0.1}}"
        )
    for name, weight in extra.items():
        if TERMS.get(name).weight is not None:
            own = "1, or alpha" if name in ("preference", "gold_nll") else f"{name}_weight"
            raise ObjectiveError(f"extra_terms: {name} is EPO's own term; its weight is {own}: leave it out here")
        if not _is_finite(weight):
            raise ObjectiveError(f"extra_terms: the weight of {name} is {weight!r}, want a finite number")


def _refuse_idle(key: str, why: str, remedy: str) -> None:
    raise ObjectiveError(f"{key} would do nothing: {why}; leave it out{f', or {remedy}' if remedy else ''}")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


__all__ = ["ObjectiveError", "check_objective"]

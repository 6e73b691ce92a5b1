"""Describer: what a source of descriptions offers, which there are, and what one says of a turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from epo.data.dialogue import Dialogue
from epo.registry import Loaders, Registry


@dataclass(frozen=True)
class Described:
    """One sentence about a turn, and what it was made from.

    Attributes:
        text: the sentence.
        evidence: its numbers by name; empty where a person wrote it.
        peak_s: where in the clip the expression is strongest, in seconds; None where that is not known.
        trace: how a model came to it: `model`, `prompt` (its version) and `frames_s`, as `epo.data.descriptions` reads
            them; empty where no model wrote it.
    """

    text: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    peak_s: float | None = None
    trace: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Left:
    """A turn that gets no description.

    Attributes:
        reason: why, in words that are the same for every such turn; they are counted.
        place: of the first, with what stands there; empty where the turn says enough.
    """

    reason: str
    place: str = ""


Describe = Callable[[Dialogue, int], Described | Left]
"""Describes the turn of a number in a dialogue; the turn has a clip with a picture."""


@dataclass(frozen=True)
class Describer:
    """A source of descriptions.

    Attributes:
        about: what its sentences are made from, for `--help`.
        options: dataclass of its keys, each with a help text and a role; None where it has none.
        open: returns what describes turns, from: its options, the dialogues' file, the dialogues, a seed, the folder of
            the result, where it may keep files of its own. It may raise a `DataError`.
    """

    about: str
    options: type[Any] | None
    open: Callable[[Any, Path, Sequence[Dialogue], int, Path], Describe]


def _ours() -> Loaders:
    modules = {"builtin": "builtin_cues", "au": "action_units", "csv": "sentences", "vision": "vision"}
    return {name: partial(_offered, module) for name, module in modules.items()}


def _offered(module: str) -> Any:
    return import_module(f"epo.data.describers.{module}").DESCRIBER


DESCRIBERS: Registry[Describer] = Registry("source of descriptions", "epo.describers", _ours)
"""Sources by the names that recipes call them by."""

__all__ = ["DESCRIBERS", "Describe", "Described", "Describer", "Left"]

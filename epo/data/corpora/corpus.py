"""Corpus: everything about one source of dialogues: its reader, labels, terms and the options that only it has."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from epo.data.corpora.turns import Reader
from epo.data.dialogue import Dialogue
from epo.data.labels import LabelMap


@dataclass(frozen=True)
class Corpus:
    """A corpus that `launch/data.py import --corpus` reads.

    A module of this package offers its corpora as `CORPORA`, a tuple; `epo.data.corpora.listing` finds them.

    Attributes:
        name: as `--corpus` takes it.
        about: what it is, in one line.
        licence: a reminder of its terms; the project ships none of these corpora.
        read: the reader; with `options` it takes them as a keyword.
        labels: what its labels are; None where the user says it, or where they are the seven already.
        options: a dataclass of recipe keys that only this corpus has; its defaults change nothing for others.
        check: refuses options with which this corpus cannot be read, before anything is written.
    """

    name: str
    about: str
    licence: str
    read: Callable[..., Iterator[Dialogue]]
    labels: LabelMap | None = None
    options: type[Any] | None = None
    check: Callable[[Any], object] | None = None

    def reader(self, options: Any = None) -> Reader:
        """Return the reader with its options, of the class `options`, filled in."""
        return self.read if self.options is None else functools.partial(self.read, options=options)


__all__ = ["Corpus"]

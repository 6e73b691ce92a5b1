"""Listing: the corpora of this package's modules, found by themselves, and the label maps by name."""

import functools
import importlib
import pkgutil

import epo.data.corpora as package
from epo.data.corpora.corpus import Corpus
from epo.data.label_sets import LABEL_SETS
from epo.data.labels import LabelMap
from epo.registry import Loaders, Registry


def _ours() -> Loaders:
    found: dict[str, Corpus] = {}
    for entry in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(entry.name)
        for corpus in getattr(module, "CORPORA", ()):
            assert corpus.name not in found, f"two corpora are called {corpus.name!r}"
            found[corpus.name] = corpus
    return {name: functools.partial(found.__getitem__, name) for name in found}


KNOWN: Registry[Corpus] = Registry("corpus", "epo.corpora", _ours)
"""Corpora by name: each of a module's `CORPORA`, and those that other packages bring."""


def corpora() -> dict[str, Corpus]:
    """Return the corpora by name, in the order of the alphabet."""
    return KNOWN.all()


def label_maps() -> dict[str, LabelMap]:
    """Return the label maps by name: the published sets, then those of the corpora."""
    own = (corpus.labels for corpus in corpora().values() if corpus.labels is not None)
    return {labels.name: labels for labels in (*LABEL_SETS, *own)}


__all__ = ["KNOWN", "corpora", "label_maps"]

"""Registry: things of one kind by name: ours, one module each, and those that other packages bring."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from epo.extras import missing_extra

Thing = TypeVar("Thing")
Loaders = Mapping[str, Callable[[], Any]]


class UnknownNameError(ValueError):
    """No thing of this kind has that name; the message names the nearest and lists the others."""


class TakenNameError(ValueError):
    """A name that another thing of the kind has already."""


class Registry(Generic[Thing]):
    """The things of one kind.

    Another package adds its own without touching this one: for good by an entry point,

        [project.entry-points."epo.sources"]
        parrot = "parrot.source:SOURCE"

    or for one process by `register`. Nothing is imported before it is asked for by name.
    """

    def __init__(self, kind: str, group: str, ours: Callable[[], Loaders]) -> None:
        """Prepare, without looking for anything.

        Args:
            kind: what the things are, in the singular, for messages: "source".
            group: of the entry points: "epo.sources".
            ours: returns what loads each of our own things, by name; mostly `modules_of` a package.
        """
        self.kind, self.group = kind, group
        self._ours = functools.cache(ours)
        self._registered: dict[str, Thing] = {}
        self._loaded: dict[str, Thing] = {}

    def names(self) -> list[str]:
        """Return the names of all things, in the order of the alphabet."""
        return sorted({*self._ours(), *self._registered, *self._entry_points()})

    def register(self, name: str, thing: Thing) -> Thing:
        """Add a thing for this process, and return it.

        Raises:
            TakenNameError: the name is another thing's.
        """
        if name in self.names():
            raise self._taken(name, "what is being registered")
        self._registered[name] = thing
        return thing

    def forget(self, name: str) -> None:
        """Take back what `register` added."""
        del self._registered[name]

    def get(self, name: str) -> Thing:
        """Return a thing by its name.

        Raises:
            UnknownNameError: there is none.
            TakenNameError: two packages bring one of that name.
            MissingExtraError: it needs a package that is not installed; the message has the command that installs it.
        """
        if name in self._registered:
            return self._registered[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def all(self) -> dict[str, Thing]:
        """Return every thing by its name, in the order of the alphabet; loads them all."""
        return {name: self.get(name) for name in self.names()}

    def _load(self, name: str) -> Thing:
        entry, ours = self._entry_points().get(name), self._ours().get(name)
        if entry is None and ours is None:
            near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.0)
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}; the nearest is {', '.join(map(repr, near)) or 'none'}, "
                f"and there are {', '.join(self.names())}"
            )
        if entry is not None and ours is not None:
            raise self._taken(name, entry.value)
        try:
            thing: Thing = ours() if ours is not None else entry.load()  # type: ignore[union-attr]  # one of them is there
            return thing
        except ModuleNotFoundError as error:
            raise missing_extra(f"{self.kind} {name!r}", str(error.name)) from error

    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in _entry_points(self.group):
            if entry.name in found and found[entry.name].value != entry.value:
                raise self._taken(entry.name, f"{found[entry.name].value} and {entry.value}")
            found[entry.name] = entry
        return found

    def _taken(self, name: str, whose: str) -> TakenNameError:
        return TakenNameError(f"{self.kind} {name!r}: the name is taken already; give {whose} another one")


def modules_of(package: str, attribute: str) -> Loaders:
    """Return what loads each module's thing, by the module's name.

    Args:
        package: every module of it holds one thing: "epo.preferences.sources".
        attribute: under which a module offers it: "SOURCE".
    """
    path = importlib.import_module(package).__path__
    names = [entry.name for entry in pkgutil.iter_modules(path) if not entry.name.startswith("_")]
    return {name: functools.partial(_offered, f"{package}.{name}", attribute) for name in names}


def _offered(module: str, attribute: str) -> Any:
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


__all__ = ["Loaders", "Registry", "TakenNameError", "UnknownNameError", "modules_of"]

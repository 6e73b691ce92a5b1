"""A pair source: where rejected replies come from, with settings of its own, found by its name."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from epo.data.dialogue import Dialogue
from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.preferences.embedding import Encoder
from epo.preferences.verification import Examiner
from epo.registry import Registry, modules_of

Settings = TypeVar("Settings")


class SourceError(ValueError):
    """A source that cannot work as it is set, or a thing that is none; the message says what is wanted."""


class Source(Protocol):
    """Where rejected replies come from."""

    name: str

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Return the emotions the source can supply for these replies."""
        ...

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return, for each gold reply and its counter emotion, candidates for the rejected reply, best first."""
        ...


@runtime_checkable
class ShowsExamples(Protocol):
    """A source whose writer is shown worked examples: none of their replies may come back as a candidate."""

    examples: Sequence[str]
    """The replies among them, given and rewritten ones."""


@runtime_checkable
class WritesChosen(Protocol):
    """A source that says what is chosen, too: the gold reply with something in it, or another one in its place.

    Unless it names emotions its pairs are contradictions: both replies have the gold reply's emotion.
    """

    def write_chosen(self, gold: Sequence[Reply]) -> list[Reply | str]:
        """Return each reply as it is to be chosen; where there is to be no pair, why, in a few words to be counted."""
        ...


@runtime_checkable
class NamesEmotions(Protocol):
    """A source whose candidates have emotions of their own, so that nobody draws one that is asked for."""

    def counter_emotions(self, gold: Sequence[Reply]) -> list[Emotion]:
        """Return the emotion of the candidates for each reply; none that may not be rejected in its place."""
        ...


@runtime_checkable
class CountsSamples(Protocol):
    """A source that judges the samples of a policy: how many are right tells how far that has come."""

    def count_samples(self) -> dict[str, dict[str, Any]]:
        """Return for each split, ready for JSON: `samples`, the share that is `right`, and `found`, counts by kind."""
        ...


def examples_of(source: Source) -> tuple[str, ...]:
    """Return the replies of a source's worked examples, none where it says nothing of any."""
    return tuple(source.examples) if isinstance(source, ShowsExamples) else ()


@dataclass(frozen=True)
class SourceContext:
    """What every source may use.

    Attributes:
        seed: of every draw.
        folder: where pairs are written to; a source may keep files of its own there, such as answers already made.
        examiner: says which candidates may become pairs.
        encoder: of sentences, by the embedding_model that the recipe names; None where it names none.
        dialogues: that pairs are built on, of all splits.
    """

    seed: int
    folder: Path
    examiner: Examiner
    encoder: Encoder | None = None
    dialogues: Sequence[Dialogue] = ()


@dataclass(frozen=True)
class NoSettings:
    """Settings of a source that has no keys of its own."""


def keys_of_parts(settings: Any) -> list[str]:
    """Return the keys whose metadata say that they name a part, and that do name one."""
    parts = (field.name for field in dataclasses.fields(settings) if field.metadata.get("role") == "part")
    return [key for key in parts if getattr(settings, key) not in (None, "")]


def _nothing_to_check(settings: Any) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class PairSource(Generic[Settings]):
    """A source as a recipe chooses it: what a module of `epo.preferences.sources` offers as `SOURCE`.

    Attributes:
        about: what its rejected replies are, in one line.
        settings: a dataclass whose fields are the keys that a recipe with this source may have. A field's metadata hold
            `help`, and `role` where another value need not be another result (launch/keys/roles.py: "part" names a
            trained part, "file" a file, "layout" spreads work, "cosmetic" changes nothing). It refuses by itself, in
            `__post_init__`, values that cannot be.
        make: returns the source; may take long, and load models.
        check: refuses, quickly and without sending anything, what would stop `make` on this machine.
        parts: returns the keys under which its settings name models to be loaded.
        reads_clips: whether recordings go into its replies, and not only words.
        keeps_content: whether its replies are to say what the gold reply says, in another emotion: then a candidate
            that loses its content, names or numbers is dropped. Of other sources' that is measured alone.
        is_certain: whether its replies are right by construction: then verification is measured and drops none.
        names_emotions: whether its candidates have emotions of their own (`NamesEmotions`), which a judge read: then a
            judge that says little is refused, and so is `counter_emotion`.
    """

    about: str
    settings: type[Settings]
    make: Callable[[Settings, SourceContext], Source]
    check: Callable[[Settings], None] = _nothing_to_check
    parts: Callable[[Settings], Iterable[str]] = keys_of_parts
    reads_clips: bool = False
    keeps_content: bool = False
    is_certain: bool = False
    names_emotions: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that are no keys.

        Raises:
            SourceError: they are no dataclass.
        """
        if not (isinstance(self.settings, type) and dataclasses.is_dataclass(self.settings)):
            raise SourceError(
                f"settings of a source are {self.settings!r}, want a dataclass of its keys; NoSettings for none"
            )

    def settings_from(self, keys: Mapping[str, Any]) -> Settings:
        """Return the settings out of keys that others may stand among."""
        names = [field.name for field in dataclasses.fields(self.settings) if field.init]  # type: ignore[arg-type]
        return self.settings(**{name: keys[name] for name in names if name in keys})


SOURCES: Registry[PairSource[Any]] = Registry(
    "source", "epo.sources", lambda: modules_of("epo.preferences.sources", "SOURCE")
)
"""Every source by its name. Another package adds one by an entry point of `epo.sources`, or by `SOURCES.register`."""


def get_source(name: str) -> PairSource[Any]:
    """Return a source by its name.

    Raises:
        SourceError: what has this name is no `PairSource`.
        ValueError: those of `Registry.get`: there is none, its name is taken, or a package that it needs is missing.
    """
    found = SOURCES.get(name)
    if not isinstance(found, PairSource):
        raise SourceError(f"source {name!r} is {found!r:.80}, want a PairSource of epo.preferences.source")
    return found


__all__ = [
    "SOURCES",
    "CountsSamples",
    "NamesEmotions",
    "NoSettings",
    "PairSource",
    "ShowsExamples",
    "Source",
    "SourceContext",
    "SourceError",
    "WritesChosen",
    "examples_of",
    "get_source",
    "keys_of_parts",
]

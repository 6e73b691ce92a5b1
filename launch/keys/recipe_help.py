"""What `--help` of a stage shows: the project's own keys on one screen, grouped by pieces, each with its default."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from compressor.fixed_settings import default_of

_WIDTH, _MARGIN = 100, 2
_OF_STAGE = "Of this stage"
_OFTEN_SET = ("max_steps", "learning_rate", "per_device_train_batch_size", "save_steps", "bf16", "seed")
"""Keys of transformers that nearly every recipe says."""


def format_help(
    types: Sequence[type[Any]],
    own_keys: Mapping[type[Any], set[str]],
    defaults: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """Return the help of a stage.

    Args:
        types: its dataclasses, its own first.
        own_keys: by class of transformers or TRL, or made of one, the keys in it that are the project's.
        defaults: what the project sets otherwise than transformers.
        notes: shown at the end, a paragraph each.
    """
    groups: dict[str, list[tuple[str, str]]] = {_OF_STAGE: []}
    for type_ in (*types[1:], types[0]):  # what only this stage has, what its choices bring, and the common pieces
        for heading, name in _placed_keys(type_, types[0], own_keys.get(type_)):
            groups.setdefault(heading, []).append((f"--{name}", _described(type_, name)))
    about = f"{_summary(types[0])}. Give --config RECIPE.yaml; what a flag --KEY VALUE says wins over the file."
    lines = textwrap.wrap(about, _WIDTH)
    width = max(len(flag) for entries in groups.values() for flag, _ in entries) + _MARGIN
    for heading, entries in groups.items():
        lines.append(f"{heading}:")
        for flag, text in entries:
            lines += _columns(flag, text, width)
    foreign = list(own_keys)
    if foreign:
        values = {field.name: default_of(field) for field in dataclasses.fields(foreign[0])} | dict(defaults)
        often = [f"--{name} [{_shown(values[name])}]" for name in _OFTEN_SET if name in values]
        notes = [f"Of transformers, with more in --help-all: --output_dir [needed], {', '.join(often)}", *notes]
    return "\n".join(
        [*lines, *(line for note in notes for line in textwrap.wrap(note, _WIDTH, subsequent_indent="  "))]
    )


def _placed_keys(type_: type[Any], stage: type[Any], own_keys: set[str] | None) -> Iterator[tuple[str, str]]:
    """Yield each key under a heading: that of the class that brings it, for a recipe is made of pieces."""
    fields = [field.name for field in dataclasses.fields(type_) if field.init]
    if own_keys is not None:
        yield from ((_summary(type_), name) for name in fields if name in own_keys)
        return
    for class_ in type_.__mro__:
        inherited = {name for base in class_.__mro__[1:] for name in getattr(base, "__dataclass_fields__", {})}
        heading = _OF_STAGE if class_ is stage else _summary(class_)
        own = vars(class_).get("__annotations__", {}).keys() - inherited
        yield from ((heading, name) for name in fields if name in own)


def _summary(type_: type[Any]) -> str:
    return (type_.__doc__ or type_.__name__).split("\n")[0].rstrip(".")


def _described(type_: type[Any], name: str) -> str:
    """Return what a key may be, its help and its default."""
    (field,) = (field for field in dataclasses.fields(type_) if field.name == name)
    is_needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    default = "needed" if is_needed else _shown(default_of(field))
    words = _choices(get_type_hints(type_)[name])
    if default in words:
        return f"{' | '.join(f'[{word}]' if word == default else word for word in words)}: {help_of(type_, name)}"
    return " ".join([*([f"{' | '.join(words)}:"] if words else []), help_of(type_, name), f"[{default}]"]).strip()


def help_of(type_: type[Any], name: str) -> str:
    """Return the help of a key: that of the class nearest to `type_` that has one."""
    for class_ in type_.__mro__:
        field = vars(class_).get("__dataclass_fields__", {}).get(name)
        if field is not None and "help" in field.metadata:
            return str(field.metadata["help"])
    return ""


def _choices(hint: Any) -> list[str]:
    """Return the words that a key may be, none where it may be more."""
    return [str(word) for word in get_args(hint)] if get_origin(hint) is Literal else []


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "empty" if value == "" else str(getattr(value, "value", value))


def _columns(left: str, right: str, width: int) -> list[str]:
    """Return two columns in lines of at most 100 characters."""
    indent = " " * _MARGIN
    first, *more = textwrap.wrap(right, _WIDTH - width - _MARGIN) or [""]
    return [f"{indent}{left:{width}}{first}".rstrip(), *(f"{indent}{'':{width}}{line}" for line in more)]


__all__ = ["format_help", "help_of"]

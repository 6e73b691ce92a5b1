"""Whether the values of a recipe have the types that its dataclass declares: argparse looks at those of flags alone."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from launch.keys.recipe_file import RecipeError


def check_values(recipe: Any, where: str) -> None:
    """Refuse seeds, and values of another type than declared.

    Raises:
        RecipeError: names the key, what came and what is wanted.
    """
    check_seeds(vars(recipe), where)
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments checks and converts its own
        return
    for name, type_ in get_type_hints(type(recipe)).items():  # the parser rewrites the fields' own types
        value = getattr(recipe, name)
        if not _fits(value, type_):
            raise RecipeError(f"{where}: {name} is {value!r}, want {' or '.join(_names(type_))}")


def check_seeds(values: Mapping[str, Any], where: str) -> None:
    """Refuse seeds that NumPy and torch would refuse later."""
    for name in ("seed", "data_seed"):
        value = values.get(name)
        if isinstance(value, int) and not 0 <= value < 2**32:
            raise RecipeError(f"{where}: {name} is {value}, want a whole number from 0 to {2**32 - 1}")


def _fits(value: Any, type_: Any) -> bool:
    origin, parts = get_origin(type_), get_args(type_)
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return type_ is bool
    return isinstance(value, int | float) if type_ is float else isinstance(value, type_)


def _names(type_: Any) -> list[str]:
    """Return what a type accepts, in words."""
    origin, parts = get_origin(type_), get_args(type_)
    if origin is Literal:
        return [repr(part) for part in parts]
    if origin in (Union, UnionType):
        return [name for part in parts for name in _names(part)]
    if origin is list:
        return [f"a list of {' or '.join(_names(parts[0]))}"]
    return ["nothing" if type_ is type(None) else type_.__name__]


__all__ = ["check_seeds", "check_values"]

"""Keys that a recipe has because of what it says under another key: `source: llm` brings those of the source `llm`."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.keys.recipe_file import RecipeError


@dataclass(frozen=True)
class ChosenBy:
    """A place in a list of recipe types that one key's value fills.

    `RECIPES = [PreferencesRecipe, ChosenBy("source", "retrieve", settings_of, names)]` reads a recipe with
    `source: llm` into `PreferencesRecipe` and `settings_of("llm")`. A key of another source is refused, naming whose it
    is.

    Attributes:
        key: whose value chooses; a key of the types before it.
        default: the value where the recipe does not say the key.
        settings: returns the dataclass of a value, None where it has no keys of its own. It may raise a user's mistake
            for a value that is not known.
        values: returns the values there are; asked only to say whose a key is.
    """

    key: str
    default: str
    settings: Callable[[str], type[Any] | None]
    values: Callable[[], Iterable[str]]


def chosen_types(types: Sequence[Any], said: Mapping[str, Any], where: str) -> list[type[Any]]:
    """Return the dataclasses of a recipe, those that its values choose included.

    Args:
        types: dataclasses and `ChosenBy`.
        said: what the recipe and the flags say, by key.
        where: for messages.

    Raises:
        RecipeError: the value of a choosing key is no text or not known, or what it chooses has a key that stands
            elsewhere too.
    """
    found: list[type[Any]] = []
    for type_ in types:
        if not isinstance(type_, ChosenBy):
            found.append(type_)
            continue
        value = said.get(type_.key, type_.default)
        if not isinstance(value, str):
            raise RecipeError(f"{where}: {type_.key} is {value!r}, want text")
        try:
            settings = type_.settings(value)
        except ValueError as error:
            raise RecipeError(f"{where}: {type_.key}: {error}") from error
        if settings is None:
            continue
        twice = sorted(_keys(settings) & {key for other in found for key in _keys(other)})
        if twice:
            raise RecipeError(
                f"{type_.key} {value}: its settings have the key {twice[0]}, which the recipe has without them: name "
                f"it otherwise in {settings.__name__}"
            )
        found.append(settings)
    return found


def refuse_others(key: str, types: Sequence[Any], said: Mapping[str, Any], where: str) -> None:
    """Refuse a key that another value of a choosing key would have brought; do nothing about any other key.

    Raises:
        RecipeError: names whose key it is, and the remedy.
    """
    for choice in types:
        if not isinstance(choice, ChosenBy):
            continue
        settings = {value: choice.settings(value) for value in choice.values()}
        owners = [value for value, type_ in settings.items() if type_ is not None and key in _keys(type_)]
        if owners:
            chosen = said.get(choice.key, choice.default)
            raise RecipeError(
                f"{where}: key {key} belongs to {choice.key} {' and '.join(owners)}; this recipe's {choice.key} is "
                f"{chosen}, which ignores it: leave it out"
            )


def _keys(type_: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(type_) if field.init}


__all__ = ["ChosenBy", "chosen_types", "refuse_others"]

"""Keys that another key's value brings: read where they are chosen, refused by name where they are not."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from launch.keys.recipe_pieces import StageRecipe
from launch.recipe import ChosenBy, RecipeError, declared, read_recipe


@dataclass(kw_only=True)
class Own(StageRecipe):
    """A stage whose source has keys of its own."""

    output_dir: str
    source: str = "plain"


@dataclass(kw_only=True)
class Asking:
    """Settings of one source."""

    model: str = field(metadata={"help": "whom to ask"})
    context_turns: int = 5


@dataclass(kw_only=True)
class Seeking:
    """Settings of another, with a key of the same name."""

    context_turns: int = 3
    width: float = 1.0


@dataclass(kw_only=True)
class Clashing:
    """Settings with a key that the recipe has anyway."""

    output_dir: str = "o"


SETTINGS: dict[str, type[Any] | None] = {"plain": None, "ask": Asking, "seek": Seeking}


def settings_of(name):
    if name not in SETTINGS:
        raise RecipeError(f"no source {name!r}")
    return SETTINGS[name]


TYPES = [Own, ChosenBy("source", "plain", settings_of, lambda: SETTINGS)]


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "toy.yaml"
        path.write_text(f"output_dir: out\n{text}")
        return ["--config", str(path)]

    return write


def test_the_chosen_keys_are_read_and_typed(recipe):
    own, settings = read_recipe(TYPES, recipe("source: ask\nmodel: m\ncontext_turns: 2\n"))
    assert own.source == "ask" and settings == Asking(model="m", context_turns=2)
    values, defaults = declared(TYPES, recipe("source: seek\n"))
    assert (values["context_turns"], values["width"], defaults["width"]) == (3, 1.0, 1.0)
    assert "model" not in values and "model" not in defaults
    with pytest.raises(RecipeError, match="width is 'wide'|invalid float value: 'wide'"):
        read_recipe(TYPES, recipe("source: seek\nwidth: wide\n"))


def test_a_flag_chooses_too_and_wins(recipe):
    argv = recipe("source: ask\nmodel: m\n")
    assert read_recipe(TYPES, [*argv, "--context_turns", "7"])[1].context_turns == 7
    for flags in (["--source", "seek"], ["--source=seek"]):
        with pytest.raises(
            RecipeError, match="key model belongs to source ask; this recipe's source is seek, which ignores it"
        ):
            read_recipe(TYPES, [*argv, *flags])


def test_a_value_without_keys_of_its_own_brings_none(recipe):
    assert len(read_recipe(TYPES, recipe(""))) == 1
    assert len(read_recipe(TYPES, recipe("source: plain\n"))) == 1


@pytest.mark.parametrize("read", [read_recipe, declared])
def test_keys_of_another_choice_are_refused_with_their_owners(recipe, read):
    with pytest.raises(
        RecipeError, match=r"toy.yaml: key width belongs to source seek; this .* is ask, which ignores it: leave"
    ):
        read(TYPES, recipe("source: ask\nmodel: m\nwidth: 2\n"))
    with pytest.raises(RecipeError, match="toy.yaml: key context_turns belongs to source ask and seek; .* is plain"):
        read(TYPES, recipe("context_turns: 5\n"))  # also at its default: it would do nothing
    with pytest.raises(RecipeError, match="command line: key model belongs to source ask"):
        read(TYPES, [*recipe(""), "--model", "m"])
    with pytest.raises(RecipeError, match="unknown key 'modle'; the nearest known key is 'model'"):
        read(TYPES, recipe("source: ask\nmodle: m\n"))


def test_a_required_key_of_the_chosen_is_asked_for(recipe):
    with pytest.raises(RecipeError, match="the following arguments are required: --model"):
        read_recipe(TYPES, recipe("source: ask\n"))


def test_a_choice_that_is_not_known_or_no_text_is_refused(recipe):
    with pytest.raises(RecipeError, match="no source 'aks'"):
        read_recipe(TYPES, recipe("source: aks\n"))
    with pytest.raises(RecipeError, match="source is 3, want text"):
        read_recipe(TYPES, recipe("source: 3\n"))


def test_settings_that_repeat_a_key_of_the_recipe_are_refused(recipe):
    types = [Own, ChosenBy("source", "plain", lambda name: Clashing, lambda: ["plain"])]
    with pytest.raises(RecipeError, match="source plain: its settings have the key output_dir, which the recipe has"):
        read_recipe(types, recipe(""))

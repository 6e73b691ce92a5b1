"""`--help` of every stage: the project's own keys on one screen, each with what it is and its default."""

import dataclasses
import importlib

import pytest

from launch.data_verbs import importing
from launch.keys.recipe_help import help_of
from launch.recipe import ChosenBy, read_recipe

STAGES = ("extractor", "compressor", "sft", "preferences", "epo", "evaluate")
LINES, COLUMNS = 51, 100
TOLD_TWICE = {"llm", "model", "pairs", "extractor", "descriptions", "modality_dropout", "trainable", "kind"}
LINES_OF_PAIRS = 72  # what is verified of a pair has a key each, and a source brings its own


def shown(read, capsys):
    with pytest.raises(SystemExit) as ended:
        read()
    assert ended.value.code == 0
    return capsys.readouterr().out


def recipes_of(stage):
    return importlib.import_module(f"launch.{stage}").RECIPES


def variants(types):
    """Command lines that choose each of what there is to choose."""
    choices = [type_ for type_ in types if isinstance(type_, ChosenBy)]
    return [[f"--{choice.key}", value] for choice in choices for value in choice.values()] or [[]]


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_our_own_keys_on_one_screen(stage, capsys):
    types = recipes_of(stage)
    for choice in variants(types):
        lines = shown(lambda choice=choice: read_recipe(types, [*choice, "--help"]), capsys).rstrip("\n").splitlines()
        most = LINES_OF_PAIRS if stage == "preferences" else LINES
        assert len(lines) <= most and max(map(len, lines)) <= COLUMNS, choice
        text = "\n".join(lines)
        for field in dataclasses.fields(types[0]):
            assert text.count(f"  --{field.name} ") == 1, field.name
        assert "Run:" in lines and "Of this stage:" in lines
        assert ("--help-all" in text) == any(hasattr(type_, "to_sanitized_dict") for type_ in types)


def test_help_of_an_import_shows_the_corpora_or_the_options_of_one(capsys):
    for argv in ([], *variants(importing.RECIPES)):
        text = shown(lambda argv=argv: importing.run([*argv, "--help"]), capsys)
        lines = text.rstrip("\n").splitlines()
        assert len(lines) <= LINES and max(map(len, lines)) <= COLUMNS, argv
        assert ("corpora:" in lines) == (argv == [])
        assert ("--columns" in text) == (argv[-1:] == ["table"])


def test_a_line_says_what_a_key_may_be_and_its_default(capsys):
    text = shown(lambda: read_recipe(recipes_of("sft"), ["--help"]), capsys)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "--lora_alpha LoRA's alpha (not the loss's) [32]" in lines
    assert "--global_batch_size examples a step, over all ranks and micro-batches [16]" in lines  # SFT's own default
    assert "--data dialogues.jsonl [needed]" in lines
    assert "--input text | [audio_visual]: what the model reads" in lines
    assert "--curriculum text input: short histories first [yes]" in lines
    assert lines.index("Data:") > lines.index("Of this stage:")


def test_help_all_adds_what_is_transformers_own(capsys):
    for types in (recipes_of("epo"), recipes_of("sft")):
        own = shown(lambda types=types: read_recipe(types, ["--help"]), capsys)
        both = shown(lambda types=types: read_recipe(types, ["--help-all"]), capsys)
        assert both.startswith(own) and "--adam_beta2" in both and "--adam_beta2" not in own


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_has_a_help_text_and_a_key_of_several_stages_has_one(stage):
    for type_ in recipes_of(stage):
        if not isinstance(type_, ChosenBy) and not hasattr(type_, "to_sanitized_dict"):
            assert [f.name for f in dataclasses.fields(type_) if not help_of(type_, f.name)] == []


def test_what_several_stages_mean_by_a_key_is_told_once():
    """Told twice are names of inputs, which a stage may do without or not, and keys that mean another thing in each."""
    told = {}
    for stage in STAGES:
        for class_ in recipes_of(stage)[0].__mro__:
            for name, field in vars(class_).get("__dataclass_fields__", {}).items():
                inherits = any(name in vars(base).get("__dataclass_fields__", {}) for base in class_.__mro__[1:])
                if "help" in field.metadata and not inherits:
                    told.setdefault(name, set()).add(class_)
    assert {name for name, classes in told.items() if len(classes) > 1} <= TOLD_TWICE

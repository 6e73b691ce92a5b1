"""`import --corpus` and `labels` as a user meets them: what there is, what is whose, and the commands of the page."""

import re
import shlex
from pathlib import Path

import pytest

from epo.data.corpora.listing import corpora, label_maps
from epo.data.dialogue import DataError
from launch.data_verbs import importing, labels
from launch.recipe import RecipeError, read_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")


def test_help_lists_every_corpus_in_a_line(capsys):
    with pytest.raises(SystemExit):
        importing.run(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in ("builtin", *corpora()):
        assert sum(line.split()[:1] == [name] for line in lines[: len(corpora()) + 2]) == 1, name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--corpus", "mled"], "corpus: 'mled' is not known, the nearest is 'meld'; want one of builtin, cped,"),
        (["--corpus", "meld", "--iemocap_left", "male"], "iemocap_left: only for iemocap, not meld; leave it out"),
        (["--corpus", "meld", "--columns", "text=a", "--user", "b"], "columns, user: only for table, not meld"),
        (["--media", "{a}.wav"], "media: only for table, not builtin"),
        (["--corpus", "table", "--num_test", "3"], "num_test: only for the built-in corpus, not table"),
    ],
)
def test_an_option_of_another_corpus_is_refused_naming_whose_it_is(argv, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        importing.run([*argv, "--root", str(ROOT), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_table_that_cannot_be_read_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match="columns: say which column is what"):
        importing.run(["--corpus", "table", "--root", str(tmp_path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_labels_are_listed_and_printed(capsys):
    labels.run([])
    assert len(capsys.readouterr().out.splitlines()) == len(label_maps())
    labels.run(["ravdess"])
    assert "'02': neutral\n" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="no label map 'ravdes', the nearest is 'ravdess'"):
        labels.run(["ravdes"])


def test_the_page_has_every_corpus_and_every_map():
    headings = " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    assert [name for name in corpora() if name not in re.findall(r"\w+", headings)] == []
    assert [name for name in label_maps() if f"`{name}`" not in PAGE] == []


def _commands():
    text = PAGE.replace("\\\n", " ")
    return re.findall(r"^python launch/data\.py import (--corpus .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", _commands())
def test_every_command_of_the_page_is_a_recipe(command, tmp_path, monkeypatch):
    """Its keys are known and its table is one; the corpus itself is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.yaml").write_text("joy: happy\n")
    (tmp_path / "values.yaml").write_text('statement:\n  "01": Kids are talking by the door.\n')
    argv = shlex.split(command)
    root = tmp_path / argv[argv.index("--root") + 1]
    root.mkdir(parents=True)
    argv = ["--output_dir" if argument == "--out" else argument for argument in argv]
    recipes = read_recipe(importing.RECIPES, argv)
    keys = {key: value for recipe in recipes for key, value in vars(recipe).items()}
    importing.check_recipe(type("Keys", (), keys))


def test_the_page_shows_every_map_as_it_is():
    for name, labels_of in label_maps().items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", PAGE, re.MULTILINE)
        shown = {}
        for part in row.split("; "):
            emotion, words = re.fullmatch(r"\*\*([\w ]+)\*\* (.*)", part).groups()
            shown |= dict.fromkeys(words.split(", "), None if emotion == "left out" else emotion)
        assert shown == labels_of.emotions, name

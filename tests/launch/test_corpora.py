"""`import --corpus` and `label-maps` as a user meets them: what there is, what is whose, the commands of the page."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from epo.data.corpora.listing import corpora, label_maps
from epo.data.dialogue import DataError
from launch.data_verbs import importing, printing_label_maps
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
        (
            ["--corpus", "meld", "--iemocap_left", "male"],
            "key iemocap_left belongs to corpus iemocap; this recipe's corpus is meld, which ignores it: leave it out",
        ),
        (
            ["--corpus", "meld", "--columns", "text=a", "--user", "b"],
            "key columns belongs to corpus table; this recipe's corpus is meld",
        ),
        (["--media", "{a}.wav"], "key media belongs to corpus table; this recipe's corpus is builtin"),
        (
            ["--corpus", "table", "--num_test", "3"],
            "key num_test belongs to corpus builtin; this recipe's corpus is table",
        ),
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
    printing_label_maps.run([])
    assert len(capsys.readouterr().out.splitlines()) == len(label_maps())
    printing_label_maps.run(["ravdess"])
    assert "'02': neutral\n" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="no label map 'ravdes', the nearest is 'ravdess'"):
        printing_label_maps.run(["ravdes"])


def test_the_page_has_every_corpus_and_every_map():
    headings = " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    assert [name for name in corpora() if name not in re.findall(r"\w+", headings)] == []
    assert [name for name in label_maps() if f"`{name}`" not in PAGE] == []


@pytest.mark.slow
def test_150_000_utterances_of_a_table_take_under_a_minute_and_a_gibibyte(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    text = "An utterance of about the length that people write when they talk of something, number"
    rows = (f'{index // 20},{index % 20},{"AB"[index % 2]},"{text}, {index}",joy' for index in range(150_000))
    (root / "train.csv").write_text("\n".join(["talk,place,who,words,feeling", *rows]))
    columns = "dialogue=talk,order=place,speaker=who,text=words,emotion=feeling"
    argv = ["--corpus", "table", "--root", str(root), "--out", str(tmp_path / "out"), "--columns", columns]
    program = (
        f"import re, time; from launch.data_verbs.importing import run; run({argv!r});"
        # Of this process alone, and not by the clock: the machine may have other work.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read());"
        "print(time.process_time(), peak[1])"
    )
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    seconds, peak_kib = map(float, done.stdout.split()[-2:])
    assert json.loads((tmp_path / "out" / "card.json").read_text())["turns"]["train"] == 150_000
    assert seconds < 60 and peak_kib < 2**20


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

"""The command `epo`: teaches on one screen, starts what it names with the scripts' exit codes, writes new recipes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch import cli, data
from launch.folder.stage_state import recipe_types
from launch.keys import new_recipes
from launch.keys.new_recipes import _origins, write_recipes
from launch.keys.shipped import ROOT
from launch.planning.pipeline_recipe import read_pipeline
from launch.recipe import RecipeError, declared, read_mapping

ORIGINS = [
    "av_emodialog",
    "av_emodialog_multidialog",
    "iemocap",
    "laptop",
    "meld",
    "multidialog",
    "quickstart",
    "realdata",
]


def python(*arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)


def epo(*arguments, cwd):
    return python("-m", "launch.cli", *arguments, cwd=cwd)


def test_help_teaches_on_one_screen_and_loads_nothing(tmp_path):
    for arguments in ((), ("--help",)):
        done = epo(*arguments, cwd=tmp_path)
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and len(lines) <= 45 and max(map(len, lines)) <= 100
    for command in (*cli._COMMANDS, *cli._STAGES):
        assert command in done.stdout
    verbs = re.search(r"\n  epo data import .*\n  epo data check .*\n\s+also: ([^;]+);", done.stdout).group(1)
    assert {"import", "check", *re.split(r",\s+", verbs)} == set(data._VERBS)
    origins = re.search(
        r"epo new mine --from (\w+) .*; also --from\n((?:\s+[\w, ]+\n)+?)  epo data", done.stdout
    ).groups()
    assert sorted(re.findall(r"\w+", " ".join(origins))) == ORIGINS
    code = "import sys, launch.cli; sys.argv = ['epo']; launch.cli.main(); print(*sys.modules, file=sys.stderr)"
    loaded = set(python("-S", "-c", code, cwd=tmp_path).stderr.split())
    assert "launch.cli" in loaded and not {"torch", "yaml", "numpy", "argparse", "launch.stage", "epo"} & loaded


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["quickstrat"], "no command 'quickstrat'; the nearest is 'quickstart', and epo --help shows all"),
        (["run", "spo"], "no stage 'spo'; the nearest is 'epo', and epo --help shows all"),
        (["data", "chek"], "unknown verb 'chek'"),
        (["pipeline", "--config", "gone.yaml"], "gone.yaml: no such recipe"),
        (["new", "a/b", "--from", "meld"], "'a/b' cannot name a run; want letters, digits, _ and -, such as my-meld"),
        (["run", "epo", "--accelerate", "x.yaml"], "--accelerate x.yaml: no such file; the project's are"),
        (["run", "epo", "--accelerate"], "--accelerate: want a file after it"),
        (["run", "preferences", "--accelerate", "launch/accelerate/cpu.yaml"], "--accelerate has no use with preferen"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, line, tmp_path):
    done = epo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {line}") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_stage_is_started_by_accelerate_where_it_needs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = str(ROOT / "launch" / "epo.py")
    python, settings = sys.executable, "launch/accelerate/cpu.yaml"
    by_accelerate = [python, "-m", "accelerate.commands.launch"]
    assert cli.stage_command("epo", ["--config", "a.yaml", "--beta", "0.2"]) == [
        *by_accelerate, script, "--config", "a.yaml", "--beta", "0.2"
    ]  # fmt: skip
    assert cli.stage_command("epo", ["--accelerate", settings, "--config", "a.yaml"]) == [
        *by_accelerate, "--config_file", str(ROOT / settings), script, "--config", "a.yaml"
    ]  # fmt: skip
    assert cli.stage_command("epo", ["--help"]) == [python, script, "--help"]
    assert cli.stage_command("preferences", ["--config", "a.yaml"])[:2] == [python, str(ROOT / "launch/preferences.py")]


def test_a_stage_is_run_with_its_exit_code(tmp_path):
    done = epo("run", "preferences", "--config", "gone.yaml", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: gone.yaml: no such recipe")
    done = epo("run", cwd=tmp_path)
    assert done.returncode == 0 and "epo run STAGE --config RECIPE" in done.stdout


# --- epo new ---


def test_the_project_offers_recipes_to_start_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _origins() == ORIGINS


@pytest.mark.parametrize("origin", ORIGINS)
def test_new_recipes_are_the_old_ones_under_another_name(origin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_recipes("mine", origin, Path("recipes/mine")) == "runs/mine"
    old_folder = ROOT / "recipes" / origin
    old = read_pipeline(old_folder / "pipeline.yaml", "runs/mine")
    new = read_pipeline(Path("recipes/mine/pipeline.yaml"))
    assert (new.name, new.output_dir) == ("mine", "runs/mine")
    for before, after in zip(old.stages, new.stages, strict=True):
        types = recipe_types(after.script, after.verb)
        want, found = declared(types, before.options)[0], declared(types, after.options)[0]
        parts = str(ROOT / "recipes" / origin / "parts")
        ours = {key: str(value).replace(parts, "recipes/mine/parts") for key, value in want.items()}
        assert {key: str(value) for key, value in found.items()} == ours
    for path in old_folder.rglob("*.yaml"):
        text = (Path("recipes/mine") / path.relative_to(old_folder)).read_text()
        assert f"recipes/{origin}" not in text and f"runs/{origin}" not in text
        assert text.count("#") == path.read_text().count("#")


def test_new_recipes_in_a_folder_of_ones_choice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    into = tmp_path / "some where"
    new_recipes.run(["my-1", "--from", "quickstart", "--into", str(into)])
    assert read_mapping(into / "lm.yaml")["llm"] == f"{into}/parts/llm.json"
    output = capsys.readouterr().out
    assert f"epo pipeline --config '{into}/pipeline.yaml' --check\n" in output and "runs/my-1" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some where"]
    new_recipes.run(["second", "--from", "meld"])
    new_recipes.run(["third", "--from", "second"])  # one's own are a start too
    assert read_mapping(Path("recipes/third/run.yaml"))["run"] == "runs/third"


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "-x", "a/b", "ä", "a\n", "${run}"])
def test_an_odd_name_is_refused(name, tmp_path):
    with pytest.raises(RecipeError, match="cannot name a run; want letters, digits, _ and -"):
        write_recipes(name, "meld", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_and_an_unknown_origin_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    with pytest.raises(RecipeError, match="x: exists already; choose another name or another folder with --into"):
        write_recipes("mine", "meld", Path("x"))
    for origin in ("smoke", "mled", "../recipes/meld", ""):
        with pytest.raises(
            RecipeError, match="no such recipes; there are av_emodialog, av_emodialog_multidialog, iemo"
        ):
            write_recipes("mine", origin, Path("y"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]

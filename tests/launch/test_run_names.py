"""`${run}` and other names of `run.yaml`: one edit or one flag renames a run, and what is not known is refused."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launch.folder.stage_state import recipe_types
from launch.keys.recipe_pieces import StageRecipe
from launch.keys.run_names import RUN_FILE, says_run
from launch.keys.shipped import ROOT, find_shipped
from launch.planning.pipeline_recipe import read_pipeline
from launch.recipe import RecipeError, declared, read_mapping, read_recipe, resolved_keys

FOLDERS = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/pipeline.yaml"))


@dataclass(kw_only=True)
class Toy(StageRecipe):
    """A stage."""

    output_dir: str
    data: str = ""
    sizes: list[str] = field(default_factory=list)
    beta: float = 0.1
    steps: int = 1


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Write a recipe and the names beside it; return the command line."""
    monkeypatch.chdir(tmp_path)

    def write(text, names=None):
        Path("toy.yaml").write_text(text)
        if names is not None:
            Path(RUN_FILE).write_text(names)
        return ["--config", "toy.yaml"]

    return write


def test_names_are_filled_in_and_keep_their_type(recipe):
    argv = recipe(
        "output_dir: ${run}/out\ndata: '${corpus}-${steps}.jsonl'\nsizes: ['${corpus}', b]\nsteps: ${steps}\n",
        "run: runs/mine\ncorpus: meld\nsteps: 7\n",
    )
    (toy,) = read_recipe([Toy], argv)
    assert toy == Toy(
        run="runs/mine", pipeline="mine", output_dir="runs/mine/out", data="meld-7.jsonl", sizes=["meld", "b"], steps=7
    )
    values, _ = declared([Toy], argv)
    assert values == vars(toy) == resolved_keys([toy])


@pytest.mark.parametrize("flag", [["--run", "/scratch/other"], ["--run=/scratch/other"]])
def test_a_flag_renames_the_run_and_what_is_named_after_it(recipe, flag):
    argv = recipe("output_dir: ${run}/out\n", "run: runs/mine\n")
    (toy,) = read_recipe([Toy], [*argv, *flag, "--data", "${run}/d.jsonl"])
    assert (toy.run, toy.pipeline) == ("/scratch/other", "other")
    assert (toy.output_dir, toy.data) == ("/scratch/other/out", "/scratch/other/d.jsonl")


def test_a_recipe_may_name_its_run_itself(recipe):
    (toy,) = read_recipe([Toy], recipe("run: runs/alone\noutput_dir: ${run}\n"))
    assert (toy.output_dir, toy.pipeline) == ("runs/alone", "alone")
    (toy,) = read_recipe([Toy], ["--run", "runs/x", "--output_dir=${run}/out"])
    assert toy.output_dir == "runs/x/out"


def test_tracking_names_of_the_folder_hold_unless_a_recipe_says_others(recipe):
    names = "run: runs/mine\npipeline: all\nexperiment: tests\n"
    (toy,) = read_recipe([Toy], recipe("output_dir: ${run}\n", names))
    assert (toy.pipeline, toy.experiment) == ("all", "tests")
    (toy,) = read_recipe([Toy], recipe("output_dir: o\nexperiment: own\n", names))
    assert (toy.pipeline, toy.experiment) == ("all", "own")


def test_a_dollar_is_a_dollar(recipe):
    (toy,) = read_recipe([Toy], recipe("output_dir: o\ndata: costs $5, $$ and $${run}, {run}\n"))
    assert toy.data == "costs $5, $$ and ${run}, {run}"


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("data: ${rnu}/d", "run: r\nllm: m\n", r"toy.yaml: data: \$\{rnu\} is not known; run.yaml gives \$\{llm\}, \$"),
        ("data: ${run}/d", None, r"toy.yaml: data: nothing says what \$\{run\} is: write `run: runs/NAME` into run.ya"),
        ("data: ${run/d", "run: r\n", r"toy.yaml: data: '\$\{run/d': want a name in braces"),
        ("data: ${HOME.x}/d", "run: r\n", r"'\$\{HOME.x\}': want a name in braces, such as \$\{run\}; write \$\$\{ fo"),
        ("data: ${HOME}", "run: r\n", "want a name in braces"),
        ("data: d", "llm: m\n", "run.yaml: run is missing; say where the results go, such as `run: runs/mine`"),
        ("data: d", "run: ''\n", "run.yaml: run is '', want the path of a folder"),
        ("data: d", "run: ..\n", "run.yaml: run is '..', want the path of a folder"),
        ("data: d", "run: [r]\n", r"run.yaml: run is \['r'\], want text without"),
        ("data: d", "run: r\nllm: ${run}\n", r"run.yaml: llm is '\$\{run\}', want text without"),
        ("data: d", "run: r\nLLM: m\n", "run.yaml: 'LLM' is no name; want small letters"),
        ("run: 3\ndata: d", None, "toy.yaml: run is 3, want the path of a folder"),
        ("data: d", "run: [\n", "run.yaml: not YAML"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_in_one_line(recipe, text, names, message):
    argv = recipe(f"output_dir: o\n{text}\n", names)
    for read in (read_recipe, declared):
        with pytest.raises(RecipeError, match=message) as caught:
            read([Toy], argv)
        assert "\n" not in str(caught.value)


def test_a_flag_that_would_rename_nothing_is_refused(recipe):
    argv = recipe("output_dir: runs/old\n", "run: runs/mine\n")
    with pytest.raises(RecipeError, match=r"--run runs/x: would rename nothing, for no value of toy.yaml says \$\{run"):
        read_recipe([Toy], [*argv, "--run", "runs/x"])


# --- the project's own recipes ---


def declared_values(pipeline):
    """Every key of every stage, as the stage would have it."""
    for stage in pipeline.stages:
        types = recipe_types(stage.script, stage.verb)
        yield stage.name, declared(types, stage.options)[0]


def renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return re.sub(rf"^{old}(?=/|$)", new, value)
    return [renamed(item, old, new) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_flag_or_one_edit_renames_the_whole_run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = Path("recipes") / folder / "pipeline.yaml"
    old = read_mapping(path.with_name(RUN_FILE))["run"]
    before = read_pipeline(path)
    assert (before.name, before.output_dir) == (folder, old)
    want = {
        name: {key: renamed(value, old, "runs/other") for key, value in values.items()} | {"pipeline": "other"}
        for name, values in declared_values(before)
    }
    assert all(values["output_dir"].startswith("runs/other") for values in want.values())

    by_flag = read_pipeline(path, "runs/other")
    assert (by_flag.name, by_flag.output_dir) == ("other", "runs/other")
    assert dict(declared_values(by_flag)) == want

    copy = shutil.copytree(path.parent, tmp_path / "copy")
    text = (copy / RUN_FILE).read_text()
    (copy / RUN_FILE).write_text(text.replace(f"run: {old}\n", "run: runs/other\n"))
    by_edit = read_pipeline(copy / "pipeline.yaml")
    assert (by_edit.name, by_edit.output_dir) == ("other", "runs/other")
    assert dict(declared_values(by_edit)) == want


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_run_is_named_once_and_every_name_is_used(folder):
    names = read_mapping(ROOT / "recipes" / folder / RUN_FILE)
    recipes = [read_mapping(path) for path in (ROOT / "recipes" / folder).glob("*.yaml") if path.name != RUN_FILE]
    text = str(recipes)
    assert "runs/" not in text, "say ${run}"
    assert all(says_run(recipe) for recipe in recipes if "stages" not in recipe)
    assert all(f"${{{name}}}" in text for name in names.keys() - {"run"})


def test_files_of_the_project_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = "recipes/quickstart/parts/llm.json"
    assert find_shipped(part) == str(ROOT / part)
    kept = ["recipes/gone.json", "recipes/quickstart", "recipes/../pyproject.toml", "docs/data.md", "", "x"]
    assert [find_shipped(path) for path in kept] == kept
    pipeline = read_pipeline(Path("recipes/quickstart/pipeline.yaml"), "out")
    assert {Path(stage.script).parent for stage in pipeline.stages} == {ROOT / "launch"}
    values = dict(declared_values(pipeline))
    assert values["lm"]["llm"] == str(ROOT / part) and values["lm"]["output_dir"] == "out/lm"
    Path(part).parent.mkdir(parents=True)
    Path(part).write_text("{}")
    assert find_shipped(part) == part  # what is here comes first


def test_a_pipeline_in_its_old_form_is_read_and_not_renamed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("data: d.jsonl\noutput_dir: runs/old/pairs\npipeline: old\n")
    row = "{name: a, script: launch/preferences.py, config: a.yaml, launcher: python}"
    Path("pipeline.yaml").write_text(f"name: old\noutput_dir: runs/old\nexperiment: epo\nstages: [{row}]\n")
    assert read_pipeline(Path("pipeline.yaml")).output_dir == "runs/old"
    with pytest.raises(RecipeError, match="--run runs/x: pipeline.yaml writes to runs/old all the same; leave its out"):
        read_pipeline(Path("pipeline.yaml"), "runs/x")

"""`parts_root`: every stage that names parts takes hub names from a folder, and a result is what its parts hold."""

import os
import shutil

import pytest

from epo.part_names import PARTS_ROOT, PartError
from launch.folder.identity import changes, identify
from launch.keys.recipe_pieces import PartsKeys
from launch.keys.shipped import ROOT
from launch.planning.pipeline_files import StageFiles
from launch.planning.pipeline_recipe import read_pipeline
from launch.recipe import RecipeError, declared, read_recipe


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of parts with a model in it, which is no model's weights but a file."""
    monkeypatch.setenv(PARTS_ROOT, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "name").mkdir(parents=True)
    (tmp_path / "models" / "name" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "models"


def identity(**values):
    return identify({"llm": "owner/name", "output_dir": "out"} | values, {}, 1, False)


def test_a_recipe_says_it_for_its_process_and_a_flag_comes_first(root, tmp_path):
    from launch.compressor import RECIPES

    (tmp_path / "other").mkdir()
    (tmp_path / "c.yaml").write_text("{data: d, output_dir: o, llm: a/b, backbone: c/d, parts_root: models}")
    argv = ["--config", "c.yaml"]
    read_recipe(RECIPES, argv)
    assert os.environ[PARTS_ROOT] == str(root)
    read_recipe(RECIPES, [*argv, "--parts_root", "other"])
    assert os.environ[PARTS_ROOT] == str(tmp_path / "other")
    assert declared(RECIPES, argv)[0]["parts_root"] == "models"
    with pytest.raises(PartError, match="parts_root: gone is no folder"):
        read_recipe(RECIPES, [*argv, "--parts_root", "gone"])


def test_a_result_is_what_its_parts_hold_wherever_they_lie(root, tmp_path, monkeypatch):
    before = identity(parts_root=str(root))
    assert before.inputs["llm"]["folder"] == str(root / "name")
    assert "parts_root" not in before.settings
    shutil.copytree(root / "name", tmp_path / "more" / "owner" / "name")
    assert changes(before, identity(parts_root=str(tmp_path / "more"))) == []
    monkeypatch.setenv(PARTS_ROOT, str(root))
    assert changes(before, identity()) == []
    assert changes(before, identity(llm="owner/name@v1")) == []  # a folder is what it holds
    (root / "name" / "model.safetensors").write_bytes(b"others")
    assert changes(before, identity()) == ["llm: owner/name has changed"]


def test_a_pipeline_tells_every_stage_that_names_parts(root):
    from launch.folder.stage_state import recipe_types

    pipeline = read_pipeline(ROOT / "recipes" / "quickstart" / "pipeline.yaml", parts_root="models")
    for stage in pipeline.stages:
        is_told = stage.args[-2:] == ("--parts_root", "models")
        assert is_told == issubclass(recipe_types(stage.script)[0], PartsKeys), stage.name
    told = {stage.script.split("/")[-1] for stage in pipeline.stages if "--parts_root" in stage.args}
    assert told >= {"extractor.py", "compressor.py", "sft.py", "preferences.py", "epo.py", "evaluate.py"}
    assert "data.py" not in told


def test_a_pipeline_refuses_a_folder_of_parts_that_is_none(root):
    from launch import pipeline

    recipe = str(ROOT / "recipes" / "quickstart" / "pipeline.yaml")
    with pytest.raises(PartError, match="parts_root: gone is no folder"):
        pipeline.run(["--config", recipe, "--check", "--parts_root", "gone"])


def test_the_check_before_a_pipeline_looks_there_too(root):
    files = StageFiles()
    with pytest.raises(RecipeError, match=r"owner/name: models/name holds no model \(no config.json\); get it anew"):
        files.require_part("owner/name", "models")
    (root / "name" / "config.json").write_text("{}")
    files.require_part("owner/name", "models")
    files.require_part("owner/elsewhere@v1", "models")  # the hub may have it
    with pytest.raises(RecipeError, match="models/name/m.gguf: no such file"):
        files.require_part("models/name/m.gguf")
    with pytest.raises(PartError, match="parts_root: gone is no folder"):
        files.require_part("owner/name", "gone")


def test_all_that_a_stage_reads_of_a_part_comes_from_there(root, make_llm, tokenizer, monkeypatch):
    from epo.model.loading import load_model
    from epo.model.parts import load_llm, load_tokenizer

    make_llm().save_pretrained(root / "tiny")
    tokenizer.save_pretrained(root / "tiny")
    monkeypatch.setenv(PARTS_ROOT, str(root))
    assert load_llm("owner/Tiny", "float32").config.model_type == "qwen3"
    assert load_tokenizer("owner/tiny@v1", ()).chat_template == tokenizer.chat_template
    with pytest.raises(PartError, match="owner/tiny: holds a model of type 'qwen3', want one of type 'epo'"):
        load_model("owner/tiny", "float32")

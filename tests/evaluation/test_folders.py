"""Folders to test: rows are named by what tells their paths apart, and an adapter finds its model."""

import json

import pytest

from epo.evaluation.folders import FolderError, base_folder, is_adapter, row_names


def test_rows_are_named_by_the_end_of_their_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert row_names(["runs/a/sft", "runs/b/sft", "runs/b/epo/"]) == ["a/sft", "b/sft", "epo"]
    assert row_names(["runs/a/sft"], {"sft"}) == ["a/sft"]
    (tmp_path / "said.v2.jsonl").write_text("")
    assert row_names(["said.v2.jsonl"]) == ["said.v2"]
    assert row_names([]) == []
    assert row_names(["."], {tmp_path.name}) == [f"{tmp_path.parent.name}/{tmp_path.name}"]


def test_one_place_is_one_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("runs")
    for twin in ("runs/sft/", "runs/../runs/sft", "link/sft"):
        with pytest.raises(FolderError, match="is tested already, as runs/sft; name it once"):
            row_names(["runs/sft", twin])


def adapter(folder, base):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return str(folder)


def test_an_adapter_finds_its_model_also_where_the_run_was_moved(tmp_path, monkeypatch):
    """The nearest folder above it counts, before the one that happens to be the current one."""
    (tmp_path / "moved" / "runs" / "sft").mkdir(parents=True)
    (tmp_path / "here" / "runs" / "sft").mkdir(parents=True)
    moved = adapter(tmp_path / "moved" / "runs" / "epo", "runs/sft")
    monkeypatch.chdir(tmp_path / "here")
    assert base_folder(moved) == str(tmp_path / "moved" / "runs" / "sft")
    alone = adapter(tmp_path / "alone" / "epo", "runs/sft")
    assert base_folder(alone) == "runs/sft"
    absolute = adapter(tmp_path / "absolute", str(tmp_path / "here" / "runs" / "sft"))
    assert base_folder(absolute) == str(tmp_path / "here" / "runs" / "sft")


def test_what_cannot_be_tested_is_said(tmp_path):
    with pytest.raises(FolderError, match="belongs to the model runs/gone, which is not there; bring it, or name it"):
        base_folder(adapter(tmp_path / "epo", "runs/gone"))
    with pytest.raises(FolderError, match="names no base_model_name_or_path"):
        base_folder(adapter(tmp_path / "nameless", None))
    with pytest.raises(FolderError, match="adapter_config.json: cannot be read"):
        base_folder(str(tmp_path))
    assert is_adapter(str(tmp_path / "epo"))
    with pytest.raises(FolderError, match="holds no model; want a folder written by launch/sft.py or launch/epo.py"):
        is_adapter(str(tmp_path))
    with pytest.raises(FolderError, match="gone: no such folder"):
        is_adapter(str(tmp_path / "gone"))
    (tmp_path / "config.json").write_text("{}")
    assert not is_adapter(str(tmp_path))

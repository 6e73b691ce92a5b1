"""Parts by name: what stands in for the hub, what a revision belongs to, what is said of a name found nowhere."""

import re
import socket
import time
from pathlib import Path

import pytest
import yaml

from epo import hub_reach, part_names
from epo.hub_reach import hub_answers
from epo.part_names import PARTS_ROOT, PartError, find_part, not_found, read_part


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(PARTS_ROOT, "")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct@v1", "smollm2-135m-instruct"),
        ("openai/whisper-tiny.en", "whisper-tiny.en"),
        ("sentence-transformers/all-MiniLM-L6-v2", "minilm-l6-v2"),
        ("gpt2", "gpt2"),
    ],
)
def test_a_hub_name_is_looked_up_in_the_folder_of_parts(root, monkeypatch, name, folder):
    (root / folder).mkdir(parents=True)
    for place in (find_part(name, str(root)), monkeypatch.setenv(PARTS_ROOT, str(root)) or find_part(name)):
        assert (place.source, place.is_local, place.settings) == (str(root / folder), True, {})


def test_the_nearest_name_comes_first(root):
    for folder in ("minilm", "all-minilm", "All-MiniLM", "st/All-MiniLM"):
        (root / folder).mkdir(parents=True)
    found = []
    while (place := find_part("st/All-MiniLM", str(root))).is_local:
        found.append(str(root.joinpath(place.source).relative_to(root)))
        (root / found[-1]).rmdir()
    assert found == ["st/All-MiniLM", "All-MiniLM", "all-minilm", "minilm"]


def test_without_such_a_folder_the_hub_is_asked_for_the_revision(root, monkeypatch):
    monkeypatch.setattr(part_names, "hub_answers", lambda: True)
    place = find_part("owner/name@0123abcd", str(root))
    assert (place.source, place.settings, place.is_local) == ("owner/name", {"revision": "0123abcd"}, False)
    assert find_part("owner/name").settings == {}
    assert find_part("owner/name@refs/pr/3").settings == {"revision": "refs/pr/3"}


@pytest.mark.parametrize("name", ["llm", "runs/mine/sft", "./llm", "parts/whisper.json", "/models/x", "../x/y"])
def test_folders_and_configs_stay_as_they_are(root, tmp_path, name):
    (tmp_path / "llm").mkdir()
    (root / "whisper.json").mkdir()
    (root / "sft").mkdir()
    place = find_part(name, str(root))
    assert (place.source, place.is_local) == (name, True)


@pytest.mark.parametrize("name", ["../name", "owner/../../x", "owner/..", "..", ".hidden/x", "owner/.hidden"])
def test_no_name_leaves_the_folder_of_parts(root, name):
    place = find_part(name, str(root))
    assert place.looked_at == () and place.source == name


@pytest.mark.parametrize(
    ("said", "source", "file", "is_local"),
    [
        ("owner/name/model.Q4_0.gguf", "owner/name", "model.Q4_0.gguf", False),
        ("owner/name@main/model.gguf", "owner/name", "model.gguf", False),
        ("llm/model.gguf", "llm", "model.gguf", True),
        ("model.gguf", ".", "model.gguf", True),
        ("big/name/model.gguf", "models/name", "model.gguf", True),
    ],
)
def test_a_gguf_file_is_named_in_its_folder_or_on_the_hub(root, tmp_path, said, source, file, is_local):
    (tmp_path / "llm").mkdir()
    (root / "name").mkdir()
    place = find_part(said, "models" if said.startswith("big") else None)
    assert (place.source, place.file, place.is_local) == (source, file, is_local)


def test_a_folder_has_no_revision(root, tmp_path):
    (tmp_path / "llm").mkdir()
    with pytest.raises(PartError, match="llm@main: llm is a folder, which has no revision; leave @main out"):
        find_part("llm@main")


def test_a_folder_of_parts_that_is_none_is_told(root, monkeypatch):
    with pytest.raises(PartError, match="parts_root: gone is no folder; name the one that your models lie in"):
        find_part("owner/name", "gone")
    monkeypatch.setenv(PARTS_ROOT, "gone")
    with pytest.raises(PartError, match="EPO_PARTS_ROOT: gone is no folder"):
        find_part("owner/name")


def test_a_name_found_nowhere_names_every_place_and_the_remedy(root):
    text = str(not_found(find_part("Owner/Name@v1", "models"), "offline"))
    assert "Looked at models/Owner/Name, models/Name, models/name and the hub." in text
    assert text.endswith("hf download Owner/Name --revision v1 --local-dir models/Owner/Name") and "\n" not in text
    bare = str(not_found(find_part("Owner/Name"), "offline"))
    assert bare.endswith("hf download Owner/Name --local-dir Name and name that folder, or one with all your parts as "
                         "parts_root or EPO_PARTS_ROOT")  # fmt: skip


@pytest.fixture
def hub(monkeypatch):
    """Let another address be the hub's."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_reach, "getproxies", dict)
    monkeypatch.setattr(hub_reach, "_PAUSES_S", (0.0, 0.1))
    return lambda address: monkeypatch.setattr(constants, "ENDPOINT", address)


def test_a_hub_that_cannot_be_reached_is_not_waited_for(root, hub):
    """Its client would try the first file six times, 24 s in all."""
    from transformers import AutoConfig

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        hub(f"http://127.0.0.1:{port}")
        assert hub_answers() and find_part("owner/name").settings == {}
    hub(f"http://localhost:{port}")  # now closed
    start_s = time.monotonic()
    assert not hub_answers() and find_part("owner/name@v1").settings == {"local_files_only": True, "revision": "v1"}
    with pytest.raises(PartError, match="owner/name: neither a folder nor a reachable hub name .* hf download owner"):
        read_part(AutoConfig.from_pretrained, find_part("owner/name"))
    assert time.monotonic() - start_s < 5


def test_a_proxy_is_left_to_the_hubs_client(hub, monkeypatch):
    hub("https://hub.invalid")
    assert not hub_answers()
    monkeypatch.setattr(hub_reach, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub_answers()
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub_answers()


def test_the_laptop_recipe_holds_its_parts_to_commits():
    names = yaml.safe_load((Path(__file__).parents[1] / "recipes/laptop/run.yaml").read_text())
    parts = {key: name for key, name in names.items() if key != "run"}
    assert len(parts) == 3
    for part in parts.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", part), f"{part}: want owner/name@commit"
        assert find_part(part).revision == part.partition("@")[2]

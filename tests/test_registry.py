"""The registry: ours by module, others' by entry point or call; taken, unknown and missing names refused."""

import importlib.metadata
import subprocess
import sys
import textwrap

import pytest

from epo import registry as registries
from epo.extras import MissingExtraError, missing_extra
from epo.registry import Registry, TakenNameError, UnknownNameError, modules_of


def letters():
    def needs_a_package():
        raise ModuleNotFoundError("No module named 'bert_score.scorer'", name="bert_score.scorer")

    def needs_a_foreign_one():
        raise ModuleNotFoundError("No module named 'parrot_voice'", name="parrot_voice")

    return {"alpha": lambda: "A", "beta": needs_a_package, "gamma": needs_a_foreign_one}


@pytest.fixture
def registry():
    return Registry("letter", "epo.test_letters", letters)


@pytest.fixture
def installed(monkeypatch):
    """Lets a test say what other packages bring."""
    entries = []
    monkeypatch.setattr(registries, "_entry_points", lambda group: tuple(entries))

    def install(name, value):
        entries.append(importlib.metadata.EntryPoint(name, value, "epo.test_letters"))

    return install


def test_ours_and_what_is_registered(registry):
    registry.register("delta", "D")
    assert registry.names() == ["alpha", "beta", "delta", "gamma"]
    assert registry.get("alpha") == "A" and registry.get("delta") == "D"
    registry.forget("delta")
    assert "delta" not in registry.names()


def test_an_entry_point_is_loaded_when_it_is_asked_for(registry, installed):
    installed("pi", "math:pi")
    installed("broken", "no_such_module_of_theirs:thing")
    assert registry.names() == ["alpha", "beta", "broken", "gamma", "pi"]
    assert 3.14 < registry.get("pi") < 3.15


def test_an_installed_package_brings_a_thing(tmp_path):
    """With the metadata that an installed package has, in a process of its own."""
    (tmp_path / "parrot.py").write_text("SOURCE = 'it says the same'\n")
    info = tmp_path / "parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[epo.test_letters]\nparrot = parrot:SOURCE\n")
    code = textwrap.dedent("""
        from epo.registry import Registry
        print(Registry("letter", "epo.test_letters", dict).get("parrot"))
    """)
    path = ":".join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout == "it says the same\n", done.stderr


def test_a_taken_name_is_refused(registry, installed):
    with pytest.raises(TakenNameError, match="letter 'alpha': the name is taken already"):
        registry.register("alpha", "another")
    installed("alpha", "math:pi")
    with pytest.raises(TakenNameError, match="give math:pi another one"):
        registry.get("alpha")
    installed("pi", "math:pi")
    installed("pi", "math:tau")
    with pytest.raises(TakenNameError, match="'pi': the name is taken already; give math:pi and math:tau another one"):
        registry.get("pi")


def test_an_unknown_name_names_the_nearest(registry):
    with pytest.raises(
        UnknownNameError, match="no letter is called 'alfa'; the nearest is 'alpha', and there are alph"
    ):
        registry.get("alfa")


def test_a_missing_package_names_the_command(registry):
    with pytest.raises(MissingExtraError, match=r"letter 'beta' needs .*: pip install 'epo-trainer\[metrics\]'"):
        registry.get("beta")
    with pytest.raises(MissingExtraError, match="letter 'gamma' needs parrot_voice, .*: pip install parrot-voice"):
        registry.get("gamma")


def test_modules_are_things():
    loaders = modules_of("epo.data.pages", "__name__")
    assert loaders["waveform"]() == "epo.data.pages.waveform"


def test_extras_are_those_of_the_project():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for module in ("bert_score", "cv2", "gguf", "mamba_ssm", "causal_conv1d", "starlette", "uvicorn"):
        extra = str(missing_extra("it", module)).split("[")[1].split("]")[0]
        assert extra in project["optional-dependencies"]

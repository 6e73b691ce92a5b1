"""The public names: there, documented, and cheap to import."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import epo

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", epo.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    thing = getattr(epo, name)
    assert name in dir(epo) and inspect.getdoc(thing)
    assert thing.__name__ == name or name == "load_model"
    assert hasattr(importlib.import_module(thing.__module__), thing.__name__)


def test_type_checkers_see_the_names_that_are_loaded_later():
    """The imports under TYPE_CHECKING are the table of homes."""
    source = (ROOT / "epo" / "__init__.py").read_text()
    assert sorted(epo.__all__) == sorted(epo._HOMES)
    for name, home in epo._HOMES.items():
        home, _, attribute = home.partition(":")
        line = next(line for line in source.splitlines() if line.strip().startswith(f"from {home} import"))
        assert (f"{attribute} as {name}" if attribute else name) in line.replace(",", " ").split("import")[1]


def test_importing_it_costs_next_to_nothing():
    code = (
        "import sys, time; began = time.process_time(); import epo; print(time.process_time() - began);"
        "print([name for name in ('torch', 'transformers', 'numpy', 'trl') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    seconds, loaded = printed.splitlines()
    assert loaded == "[]" and float(seconds) < 0.3


def test_the_version_is_the_projects():
    assert epo.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        AttributeError, match="module 'epo' has no attribute 'trian'; it has Conversation, Conversations, Dialogue"
    ):
        _ = epo.trian

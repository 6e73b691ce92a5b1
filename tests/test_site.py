"""The site of `make docs`: what is gathered for the generator, which .ci/run then runs in an environment of its own."""

import importlib.util
from pathlib import Path

import pytest
import yaml

import epo

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs" / "site" / "build.py")
site_build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site_build)
CONFIG = yaml.safe_load((ROOT / "docs" / "site" / "site.yml").read_text())


def test_every_page_stands_once_in_the_navigation(tmp_path):
    site_build.copy_pages(ROOT, tmp_path, site_build.listed(CONFIG["nav"]))
    assert (tmp_path / "README.md").is_file()
    assert all((tmp_path / "docs" / name).is_file() for name in ("pipeline.svg", "report-1024.png"))
    assert len(list(tmp_path.rglob("*.md"))) == len(site_build.listed(CONFIG["nav"]))


def test_a_page_without_a_place_is_named(tmp_path):
    paths = site_build.listed(CONFIG["nav"])
    with pytest.raises(
        site_build.SiteError, match=r"nav does not list every page once; in one place only: docs/data\.md"
    ):
        site_build.copy_pages(ROOT, tmp_path, [path for path in paths if path != "docs/data.md"])
    with pytest.raises(site_build.SiteError, match=r"in one place only: docs/gone\.md"):
        site_build.copy_pages(ROOT, tmp_path, [*paths, "docs/gone.md"])
    with pytest.raises(site_build.SiteError, match=r"twice: docs/data\.md"):
        site_build.copy_pages(ROOT, tmp_path, [*paths, "docs/data.md"])


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("see (docs/data.md).", "see ([docs/data.md](data.md))."),
        ("docs/data.md, docs/gpu.md", "[docs/data.md](data.md), [docs/gpu.md](gpu.md)"),
        ("[docs/data.md](docs/data.md)", "[docs/data.md](docs/data.md)"),
        ("`docs/data.md`", "`docs/data.md`"),
        ("other/docs/data.md", "other/docs/data.md"),
        ("```\ncat docs/data.md\n```\ndocs/data.md", "```\ncat docs/data.md\n```\n[docs/data.md](data.md)"),
    ],
)
def test_pages_named_in_plain_words_become_links(text, linked):
    assert site_build.link_mentions(text, "") == linked


def test_every_module_has_a_page_and_a_place(tmp_path):
    nav = site_build.listed([{"API": site_build.write_reference(ROOT, tmp_path / "api")}])
    modules = [path for name in site_build.PACKAGES for path in (ROOT / name).rglob("*.py")]
    places = {path.relative_to(ROOT).with_suffix("") for path in modules if not path.name.startswith("__")}
    packages = {path.relative_to(ROOT).parent / "index" for path in modules if path.name == "__init__.py"}
    assert {Path(path).relative_to("api").with_suffix("") for path in nav} == places | packages | {Path("index")}
    assert all((tmp_path / path).is_file() for path in nav)
    page = (tmp_path / "api" / "epo" / "data" / "index.md").read_text()
    assert "| [epo.data.dialogue](dialogue.md) | Dialogue, Turn and Clip:" in page


def test_public_names_are_listed_with_where_they_are_from_and_what_they_are():
    names = site_build.public_names(ROOT, ROOT / "epo" / "__init__.py")
    assert {name for name, _, _ in names} == set(epo.__all__)
    assert all(what.endswith(".") for _, _, what in names)
    assert ("EpoTrainer", "epo.training.trainer.EpoTrainer") in {(name, home) for name, home, _ in names}
    assert site_build.public_names(ROOT, ROOT / "compressor" / "__init__.py") == []


def test_nothing_is_fetched_when_a_page_is_read():
    assert CONFIG["theme"]["font"] is False
    assert not [key for key in CONFIG if key.startswith("extra_") and "//" in str(CONFIG[key])]

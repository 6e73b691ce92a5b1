"""What README, docs and recipe headers tell a reader to type or open must exist."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RECIPES = sorted(path for path in ROOT.glob("recipes/*/*.yaml") if path.name != "run.yaml")
JOBS = sorted(ROOT.glob("launch/slurm/*"))
IDS = {"ids": lambda path: str(path.relative_to(ROOT))}

_PATH = re.compile(r"(?<![\w./-])(?:launch|recipes|docs|epo|compressor|tests|benchmarks|\.ci)/[\w./*-]*\w")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def _text(path):
    """Return a page, or the comments at the head of a recipe or job file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def test_there_are_pages_and_recipes():
    assert len(PAGES) >= 8 and len(RECIPES) >= 10 and len(JOBS) >= 2


@pytest.mark.parametrize("page", [*PAGES, *RECIPES, *JOBS], **IDS)
def test_every_file_that_is_named_exists(page):
    named = {name for name in _PATH.findall(_text(page)) if "*" not in name and "/mine" not in name}  # `epo new mine`
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, f"{page.relative_to(ROOT)} names files that do not exist: {missing}"


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_every_link_leads_somewhere(page):
    missing = sorted(link for link in _LINK.findall(_text(page)) if not (page.parent / link).exists())
    assert not missing


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # Only where it is typed: `make x` in code, or at the start of a line of a code block.
    named = set(re.findall(r"(?:`|^\s*)make ([a-z-]+)", _text(page), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_python_scripts_are_named_with_recipes_that_fit_them(page):
    """A command of a page that names a script and a recipe names the recipe's own script."""
    text = _text(page).replace("\\\n", " ")
    for script, recipe in re.findall(r"(launch/\w+\.py)[^\n`]*--config (recipes/[\w./-]+)", text):
        if script != "launch/doctor.py":  # which looks at the recipe of any
            assert script in (ROOT / recipe).read_text(), f"{recipe} is not a recipe of {script}"


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_a_page_activates_the_environment_before_its_first_command(page):
    lines = [line.strip() for line in _text(page).splitlines()]
    commands = [i for i, line in enumerate(lines) if re.match(r"(python|accelerate) launch[ /]", line)]
    assert not commands or "source .venv/bin/activate" in lines[: commands[0]]


@pytest.mark.parametrize("recipe", RECIPES, **IDS)
def test_a_recipe_begins_with_its_purpose_and_its_own_command(recipe):
    purpose, *rest = _text(recipe).splitlines()
    assert purpose.startswith("# ") and "launch/" not in purpose
    commands = [line[4:] for line in rest if line.startswith("#   ")]
    assert any(f"--config {recipe.relative_to(ROOT)}" in command for command in commands)


@pytest.mark.parametrize("recipe", RECIPES, **IDS)
def test_a_recipes_command_starts_a_script_with_a_launcher_that_exists(recipe):
    for line in _text(recipe).splitlines():
        if line.startswith("#   ") and "--config recipes" in line:
            words = shlex.split(line[4:])
            assert words[0] in ("python", "accelerate")
            if words[0] == "accelerate":
                assert words[1:3] == ["launch", "--config_file"]
                config = yaml.safe_load((ROOT / words[3]).read_text())
                assert config["num_machines"] == 1 and config["num_processes"] >= 2


def test_readme_holds_the_quickstart_block_and_both_commands():
    readme = (ROOT / "README.md").read_text()
    begin, end = readme.index("<!-- quickstart:begin -->"), readme.index("<!-- quickstart:end -->")
    assert begin < end
    assert "\nmake quickstart\nmake test\n" in readme


def test_readme_leads_to_every_page_and_the_recipes_page_names_every_folder():
    readme, recipes = (ROOT / "README.md").read_text(), (ROOT / "docs/recipes.md").read_text()
    assert not [page.name for page in PAGES if page.parent.name == "docs" and f"](docs/{page.name})" not in readme]
    rows = "".join(line.split("|")[1] for line in recipes.splitlines() if line.startswith("| `"))
    assert not [path.parent.name for path in ROOT.glob("recipes/*/run.yaml") if f"`{path.parent.name}`" not in rows]


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_every_anchor_is_a_heading(page):
    """`page.md#a-heading`, and `#a-heading` of the same page."""
    for name, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", _text(page)):
        text = (page.parent / name).read_text() if name else _text(page)
        headings = (line.lstrip("#").strip().lower() for line in text.splitlines() if line.startswith("#"))
        assert anchor in {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


def test_ci_runs_what_the_readme_promises_and_ends_with_pytest():
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert lines == ["make check", "make docs", "make smoke", "make test"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None and recipe.group(1).strip() == "$(PYTHON) -m pytest"


def test_make_and_github_install_from_the_lock():
    makefile = (ROOT / "Makefile").read_text()
    assert (
        "\n$(INSTALLED): pyproject.toml requirements.lock requirements-cuda.lock\n\t$(ENVIRONMENT) locked\n" in makefile
    )
    for target in ("quickstart", "smoke", "test", "test-quick", "check"):
        assert f"\n{target}: $(INSTALLED)  ##" in makefile
    assert "\n.venv-docs/installed: requirements-docs.lock\n\t$(ENVIRONMENT) docs\n" in makefile
    assert "pip install" not in makefile, "launch/environment.py installs"
    ci, newest = (yaml.safe_load((ROOT / ".github/workflows" / name).read_text()) for name in ("ci.yml", "newest.yml"))
    assert "requirements.lock" in str(ci["jobs"]) and ".ci/run" in str(ci["jobs"])
    # YAML 1.1 reads the key `on` as true.
    assert newest[True]["schedule"] and "make test-newest" in str(newest["jobs"])


@pytest.mark.parametrize("script", [ROOT / ".ci/run", *JOBS], **IDS)
def test_shell_scripts_parse(script):
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run([bash, "-n", str(script)], check=True)

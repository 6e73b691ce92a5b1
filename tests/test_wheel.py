"""The wheel: what is in it, and that an environment that has only it runs the method from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the wheel is made from: built from a copy, so that no leftover of the checkout gets into it.
SOURCES = ("compressor", "epo", "launch", "recipes", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(target)]
    run(sys.executable, "-m", "pip", "wheel", *options, str(source), cwd=target)
    (path,) = target.glob("*.whl")
    return path


def run(*command, cwd, environment=None):
    done = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def packaged_files():
    """Files of the packages and recipes that a user needs: everything below them."""
    folders = (ROOT / name for name in ("compressor", "epo", "launch", "recipes"))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_packages_and_recipes_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == packaged_files()
    assert {"epo/py.typed", "compressor/py.typed", "recipes/smoke/pipeline.yaml"} <= inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_brings_the_command_and_its_version(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split("/")[-1]: archive.read(name).decode() for name in archive.namelist() if "dist-info" in name}
    assert "[console_scripts]\nepo = " in texts["entry_points.txt"]
    assert f"Version: {wheel.name.split('-')[1]}\n" in texts["METADATA"]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment in which the wheel is installed and its dependencies, but not this checkout, are seen."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-index",
        "--no-deps",
        str(wheel),
        cwd=folder,
    )
    packages = next(folder.glob("lib/python*/site-packages"))
    # A folder named in a .pth file is searched, but its own .pth files, such as an editable install's, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def clean_environment(folder):
    """The variables of this process without what leads Python back here."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return variables | {"PATH": f"{folder / 'bin'}{os.pathsep}{variables.get('PATH', os.defpath)}"}


def test_it_imports_from_its_own_environment(installed, tmp_path):
    code = "import epo, compressor, launch; print(*(m.__file__ for m in (epo, compressor, launch)), sep='\\n')"
    output = run(str(installed / "bin" / "python"), "-c", code, cwd=tmp_path, environment=clean_environment(installed))
    assert all(Path(line).is_relative_to(installed) for line in output.splitlines())


@pytest.mark.timeout(1800)
def test_it_runs_the_smoke_pipeline_from_an_empty_folder(installed, tmp_path):
    run(str(installed / "bin" / "epo"), "smoke", cwd=tmp_path, environment=clean_environment(installed))
    assert (tmp_path / "runs" / "smoke" / "report.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}

"""The lock, the environments made from it, and what a user reads when one cannot be made or is newer than tested."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from launch import environment
from launch.environment import CUDA_LOCK, DOCS_LOCK, LOCK, PYTHONS, EnvironmentFault, explain, lower_bounds, read_lock
from launch.processes import tested_versions

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "launch" / "environment.py"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
# What docs/gpu.md, docs/parts.md and docs/training.md install into .venv by hand.
_BY_HAND = ("mamba-ssm", "causal-conv1d", "gguf", "bitsandbytes", "wheel")

_stamp = Path(sys.prefix, environment.STAMP)
_kind = _stamp.read_text().strip() if _stamp.is_file() else ""
in_locked = pytest.mark.skipif(
    _kind != "locked", reason=f"this is {_kind or 'an environment of your own'}, not what `make install` makes"
)


def installed():
    """What lies in the environment itself; setuptools, once imported, adds a folder of its own packages to sys.path."""
    places = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    return {canonicalize_name(found.name): Version(found.version) for found in distributions(path=list(places))}


def requirements(name, extras, variables):
    """The requirements of an installed package that apply in an environment with these marker variables."""
    lines = [Requirement(line) for line in distribution(name).requires or ()]
    choices = [variables | {"extra": extra} for extra in (*extras, "")]
    return [line for line in lines if line.marker is None or any(map(line.marker.evaluate, choices))]


def closure(roots, variables, is_followed):
    """All requirements below the roots, by (name, extras), each with the packages that state it."""
    found, waiting = {}, [("", Requirement(root)) for root in roots]
    while waiting:
        source, line = waiting.pop()
        name = canonicalize_name(line.name)
        seen = found.setdefault(name, [])
        is_new = all(not line.extras <= known.extras for _, known in seen)
        seen.append((source, line))
        if is_new and is_followed(name):
            waiting += [(name, below) for below in requirements(name, line.extras, variables)]
    return found


# The lock itself


@pytest.mark.parametrize("path", [LOCK, CUDA_LOCK, DOCS_LOCK], ids=lambda path: path.name)
def test_a_lock_is_lines_of_name_and_version(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 10 and len({line.split("==")[0] for line in lines}) == len(lines)
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+(; .+)?", line), line
        Requirement(line)


def test_the_two_locks_share_nothing():
    assert not read_lock(LOCK).keys() & read_lock(CUDA_LOCK).keys()


def test_the_lock_holds_every_dependency_within_its_range():
    locked = read_lock(LOCK)
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *extras["dev"], *extras["metrics"], *extras["faces"], *extras["demo"]]:
        wanted = Requirement(line)
        if wanted.name != PROJECT["name"]:
            assert locked[canonicalize_name(wanted.name)] in wanted.specifier, line


def test_the_lock_of_the_site_holds_what_builds_it_and_not_the_project():
    locked = read_lock(DOCS_LOCK)
    for line in PYPROJECT["dependency-groups"]["docs"]:
        wanted = Requirement(line)
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, line
    assert not {PROJECT["name"], "torch", "transformers"} & locked.keys()


def test_a_lost_lock_is_told_with_the_remedy(tmp_path):
    with pytest.raises(EnvironmentFault, match="gone.lock is missing; bring it back: git checkout gone.lock"):
        read_lock(tmp_path / "gone.lock")


@in_locked
def test_what_is_installed_is_the_lock_and_the_project():
    have = installed()
    assert have.pop(PROJECT["name"])
    by_hand = [name for name in _BY_HAND if name in have]
    if "+cpu" not in distribution("torch").version:
        by_hand.append("torch")  # its CUDA build brings what requirements-cuda.lock lists
    besides = closure(by_hand, default_environment(), have.__contains__)
    extra = {name: version for name, version in have.items() if name not in read_lock(LOCK) and name not in besides}
    assert not extra, f"not in {LOCK.name}; make the environment anew: rm -r .venv && make install"
    wanted = {name: Version(version) for name, version in read_lock(LOCK).items()}
    assert {name: Version(have[name].public) for name in wanted if name in have} == wanted


@in_locked
@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: ".".join(map(str, python)))
def test_the_lock_is_all_that_each_python_needs(python):
    """What every package requires on that Python is locked and met; nothing is locked besides."""
    short = ".".join(map(str, python))
    variables = default_environment() | {"python_version": short, "python_full_version": f"{short}.0"}
    locked = read_lock(LOCK)
    needed = closure([f"{PROJECT['name']}[dev]", "pip", "setuptools"], variables, lambda name: name not in _cuda())
    unmet = [
        f"{source} wants {line}"
        for name, lines in needed.items()
        for source, line in lines
        if name != PROJECT["name"] and name not in _cuda() and locked.get(name, "0") not in line.specifier
    ]
    assert not unmet, (
        "if one Python alone needs a package, name it in pyproject.toml, so that all get it; then make lock"
    )
    assert set(locked) <= set(needed)


def _cuda():
    return read_lock(CUDA_LOCK)


def test_lower_bounds_are_read_with_those_of_the_tests():
    text = """
        [project]
        dependencies = ["torch>=2.13,<2.14", "Pillow >= 11"]
        [project.optional-dependencies]
        dev = ["epo-trainer[metrics,faces]", "mypy>=1.18.1,<3"]
        metrics = ["bert-score>=0.3"]
        faces = ["opencv>=4"]
        cuda = ["mamba-ssm>=2"]
    """
    bounds = {"torch": "2.13", "Pillow": "11", "mypy": "1.18.1", "bert-score": "0.3", "opencv": "4"}
    assert lower_bounds(text) == bounds
    with pytest.raises(EnvironmentFault, match="'tqdm' has no lower bound; write the oldest version that works"):
        lower_bounds(text.replace('"Pillow >= 11"', '"tqdm"'))
    assert len(lower_bounds((ROOT / "pyproject.toml").read_text())) >= 30


# The script that installs it


def test_the_script_runs_before_anything_is_installed_and_on_an_old_python():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    beside = {path.stem for path in SCRIPT.parent.glob("*.py")}
    assert not beside & sys.stdlib_module_names, "a script of launch/ would be imported in place of Python's own module"


def test_the_makefile_looks_for_the_pythons_of_the_lock():
    makefile = (ROOT / "Makefile").read_text()
    lowest, above = PYTHONS[0], (PYTHONS[-1][0], PYTHONS[-1][1] + 1)
    assert f"not {lowest} <= sys.version_info < {above}" in makefile
    assert PROJECT["requires-python"] == f">={lowest[0]}.{lowest[1]}"


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.14"])
def test_a_python_that_does_not_fit_is_told_so_in_one_line(version):
    choices = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    works = (python for python in choices if shutil.which(python) and not subprocess.run([python, "-c", ""]).returncode)
    python = next(works, None)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    done = subprocess.run([python, str(SCRIPT), "locked"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(
        rf"error: \S+ is Python {version}\S* and the project needs 3\.11, 3\.12 or 3\.13; install one, "
        r"or name it: make BASE_PYTHON=/path/to/python3\n",
        done.stderr,
    )


def test_another_system_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EnvironmentFault, match="runs on Linux; on Windows use WSL 2"):
        environment.check_interpreter()


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory):
    """The files an installation needs, in a folder of their own."""
    root = tmp_path_factory.mktemp("clone")
    (root / "launch").mkdir()
    for path in (SCRIPT, LOCK, CUDA_LOCK, ROOT / "pyproject.toml"):
        shutil.copy(path, root / path.relative_to(ROOT))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"},
            "no connection to the package index; check the network, HTTPS_PROXY and PIP_INDEX_URL",
            id="network",
        ),
        pytest.param(
            {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/var/empty"},
            f"no file of pip=={read_lock(LOCK)['pip']} for Python 3",
            id="no-file",
        ),
    ],
)
def test_a_failing_pip_ends_in_one_line_that_names_its_log(fresh_clone, settings, message):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    script = fresh_clone / "launch" / "environment.py"
    done = subprocess.run(
        [sys.executable, "-I", str(script), "locked"], env=clean | settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert done.stderr.endswith("(pip's output: .venv/install.log)\n")
    log = (fresh_clone / ".venv" / "install.log").read_text()
    assert f"No matching distribution found for pip=={read_lock(LOCK)['pip']}" in log
    assert not (fresh_clone / ".venv" / "installed").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full (1 GB free); .venv takes 2.3 GB"),
        ("ERROR: [Errno 30] Read-only file system: '/x/.venv'", "not allowed to write /x/.venv; make it writable"),
        ("error: [Errno 13] Permission denied: '/x/.venv/bin'", "not allowed to write /x/.venv/bin; make it writable"),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: 2.14.1)\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            "the package index has no torch==2.13.0 for Python 3.12 on riscv64",
        ),
        ("ERROR: ResolutionImpossible: for help", "after a change of pyproject.toml run make lock"),
        ("  ERROR: Failed building wheel for av\nFailed to build av", "could not be built for Python 3.12 on riscv64"),
        ("Collecting x\nERROR: something new\n", "ERROR: something new"),
        ("", "pip ended without saying why"),
    ],
)
def test_pips_output_is_explained(output, message):
    assert message in explain(output, "3.12", "riscv64", "1 GB free")


# Versions newer than tested


@pytest.fixture
def pretend_installed(tmp_path, monkeypatch):
    """Let a package of this name and version be found first."""

    def install(name, version):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    monkeypatch.syspath_prepend(tmp_path)
    for name in ("EPO_VERSIONS_CHECKED", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, (_, newest) in tested_versions.TESTED.items():
        install(name, f"{newest}.99")
    return install


def newer(name):
    first, second = tested_versions.minor(tested_versions.TESTED[name][1])
    return f"{first}.{second + 1}.0"


def test_tested_versions_are_not_mentioned(pretend_installed, capsys):
    tested_versions.warn_untested()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", tested_versions.TESTED)
def test_a_newer_minor_is_told_once_in_one_line(pretend_installed, tmp_path, capsys, name):
    shutil.rmtree(next(tmp_path.glob(f"{name}-*")))
    pretend_installed(name, newer(name))
    tested_versions.warn_untested()
    tested_versions.warn_untested()
    line = capsys.readouterr().err
    assert line.startswith(f"warning: {name} {newer(name)} is newer than the tested ") and line.count("\n") == 1
    assert tested_versions.TESTED[name][1] in line and "pip install -c requirements.lock" in line


def test_only_the_first_rank_speaks(pretend_installed, tmp_path, capsys, monkeypatch):
    shutil.rmtree(next(tmp_path.glob("trl-*")))
    pretend_installed("trl", newer("trl"))
    monkeypatch.setenv("RANK", "1")
    tested_versions.warn_untested()
    assert capsys.readouterr().err == ""


def test_tested_versions_are_those_of_the_ranges_the_lock_and_the_docs():
    bounds, locked = lower_bounds((ROOT / "pyproject.toml").read_text()), read_lock(LOCK)
    page = (ROOT / "docs" / "environment.md").read_text()
    for name, (oldest, newest) in tested_versions.TESTED.items():
        minors = tested_versions.minor(bounds[name]), tested_versions.minor(locked[name])
        assert minors == (tested_versions.minor(oldest), tested_versions.minor(newest))
        assert f"| {name} | {oldest} | {newest} |" in page
    assert all(f"{first}.{second}" in page for first, second in PYTHONS)

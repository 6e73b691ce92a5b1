"""Make a virtual environment for the Makefile: from a lock, or at either end of the ranges of pyproject.toml.

Run by whatever Python a machine has, before the project is installed: standard library only, and no syntax newer than
Python 3.8, so that an interpreter that does not fit is told so in one line. Any failure is one line and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
CUDA_LOCK = ROOT / "requirements-cuda.lock"
DOCS_LOCK = ROOT / "requirements-docs.lock"
# The lock is resolved with the first: what fits the oldest Python has files for the later ones too, not the other way.
PYTHONS = ((3, 11), (3, 12), (3, 13))
FOLDERS = {
    "locked": ROOT / ".venv",
    "docs": ROOT / ".venv-docs",
    "oldest": ROOT / ".venv-oldest",
    "newest": ROOT / ".venv-newest",
}
STAMP = "installed"  # in the environment's folder, written last; holds "locked", "docs", "oldest" or "newest"

_OWN_NAME = "epo-trainer"
_PROJECT = ".[dev]"
_CUDA_NAMES = ("nvidia-", "cuda-", "triton")
_LOCK_HEADER = """\
# What `make install` installs: every package of .venv besides the project itself. Written by `make lock`.
# Linux, Python 3.11 to 3.13. Elsewhere: pip install -c requirements.lock -e '.[dev]'
"""
_CUDA_HEADER = """\
# What torch's CUDA build brings besides requirements.lock. Constraints: with a CPU build none of it is installed.
# Written by `make lock`.
"""
_DOCS_HEADER = """\
# What `make docs` installs: every package of .venv-docs, which builds the site. Written by `make lock`.
"""

# What pip prints when something fails, and what to tell the user; the first that is found counts. A lost connection
# comes before a missing file, since pip reports the first as the second.
_CAUSES = (
    (r"No space left on device", "the disk is full ({free}); .venv takes 2.3 GB, 6.1 GB with torch's CUDA build"),
    (r"(?:Read-only file system|Permission denied): '([^']+)'", "not allowed to write {0}; make it writable"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError",
        "the package index's certificate was refused; name your network's certificate file in PIP_CERT",
    ),
    (
        r"NewConnectionError|ProxyError|SSLError|NameResolutionError|[Mm]ax retries exceeded|ConnectTimeout|"
        r"ReadTimeout|[Rr]ead timed out|Temporary failure in name resolution|Connection refused|Network is unreachable|"
        r"Failed to connect|Connection (?:reset|aborted|broken)",
        "no connection to the package index; check the network, HTTPS_PROXY and PIP_INDEX_URL, then repeat the command",
    ),
    (
        r"satisfies the requirement ([^\s(]+).*\(from versions: none\)",
        "no file of {0} for Python {python} on {machine} was found; either the package index cannot be reached, or "
        "`python3 -m pip config list` names one that has none",
    ),
    (
        r"No matching distribution found for ([^\s(]+)",
        "the package index has no {0} for Python {python} on {machine}; use an index that has it "
        "(`python3 -m pip config list` shows the present one and its limits), or another of the project's Pythons",
    ),
    (
        r"ensurepip is not available",
        "Python's venv module is not whole; install it (Debian, Ubuntu: apt install python3-venv)",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "the versions asked for do not fit together; after a change of pyproject.toml run make lock, else look for a "
        "constraint of your own in `python3 -m pip config list`",
    ),
    (
        r"Failed building wheel for (\S+)|metadata-generation-failed|subprocess-exited-with-error",
        "a package could not be built for Python {python} on {machine}: {0}; the end of pip's output says why",
    ),
)


class EnvironmentFault(ValueError):
    """Why there is no environment, in one line with the remedy."""


def main() -> None:
    """Do what the command line says; end with exit code 2 and one line if it cannot be done."""
    actions = {
        "locked": install_locked,
        "docs": install_docs,
        "oldest": install_oldest,
        "newest": install_newest,
        "lock": refresh_locks,
    }
    parser = argparse.ArgumentParser(description="Make .venv from the lock, or an environment at an end of the ranges.")
    parser.add_argument("action", choices=actions)
    action = parser.parse_args().action
    try:
        check_interpreter()
        os.chdir(ROOT)
        actions[action]()
    except EnvironmentFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {_explain_here(f'ERROR: {error}', FOLDERS['locked'])}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("error: interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)


def check_interpreter() -> None:
    """Refuse a system or a Python that the lock does not fit."""
    names = [".".join(map(str, version)) for version in PYTHONS]
    wanted = f"{', '.join(names[:-1])} or {names[-1]}"
    if sys.platform != "linux":
        raise EnvironmentFault(f"this is {platform.system()} and the project runs on Linux; on Windows use WSL 2")
    if sys.version_info[:2] not in PYTHONS:
        raise EnvironmentFault(
            f"{sys.executable} is Python {platform.python_version()} and the project needs {wanted}; install one, "
            "or name it: make BASE_PYTHON=/path/to/python3"
        )
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        raise EnvironmentFault(
            f"{sys.executable} has no venv module; install it (Debian, Ubuntu: apt install python3-venv), "
            "or name another Python: make BASE_PYTHON=/path/to/python3"
        )


def install_locked() -> None:
    """Make `.venv` exactly as the lock says."""
    lines = ["-r", str(LOCK), "-c", str(CUDA_LOCK), "-e", _PROJECT]
    _install("locked", lines, f"the {len(read_lock(LOCK))} packages of {LOCK.name}")


def install_docs() -> None:
    """Make `.venv-docs`, which holds what builds the site and not the project."""
    _install("docs", ["-r", str(DOCS_LOCK)], f"the {len(read_lock(DOCS_LOCK))} packages of {DOCS_LOCK.name}")


def install_oldest() -> None:
    """Make `.venv-oldest` with the lower bound of every direct dependency."""
    bounds = lower_bounds((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch, "oldest.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in bounds.items()))
        _install("oldest", ["-c", str(constraints), "-e", _PROJECT], "the lower bounds of pyproject.toml")


def install_newest() -> None:
    """Make `.venv-newest` with the newest of every package that the ranges of pyproject.toml admit today."""
    lines = ["--upgrade", "--upgrade-strategy", "eager", "-e", _PROJECT]
    _install("newest", lines, "the newest that pyproject.toml admits")


def refresh_locks() -> None:
    """Resolve pyproject.toml anew in a throw-away environment and write the lock files."""
    if sys.version_info[:2] != PYTHONS[0]:
        oldest = ".".join(map(str, PYTHONS[0]))
        raise EnvironmentFault(f"the lock is made by Python {oldest}: make lock BASE_PYTHON=python{oldest}")
    before, cuda_before = read_lock(LOCK), read_lock(CUDA_LOCK)
    docs_before = read_lock(DOCS_LOCK) if DOCS_LOCK.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch, "venv"), ROOT / ".lock.log"
        log.unlink(missing_ok=True)
        python = _make_venv(folder, log)
        _pip(python, log, "install", "--upgrade", "pip", "setuptools")
        packages = _resolve(python, log, _PROJECT, "pip", "setuptools")
        docs = _resolve(python, log, "--group", "docs")
        cuda = {name: version for name, version in packages.items() if name.startswith(_CUDA_NAMES)}
        if not cuda and packages["torch"] != before.get("torch"):
            raise EnvironmentFault(
                f"pip has a CPU build of torch {packages['torch']} here and {CUDA_LOCK.name} lists what the CUDA build "
                "brings; make lock where pip has the CUDA build, such as with PIP_CONFIG_FILE=/dev/null"
            )
        cuda = cuda or cuda_before
        packages = {name: version for name, version in packages.items() if name not in cuda}
        new_locks = [Path(scratch, LOCK.name), Path(scratch, DOCS_LOCK.name)]
        _write_lock(new_locks[0], _LOCK_HEADER, packages)
        _write_lock(new_locks[1], _DOCS_HEADER, docs)
        for version in PYTHONS[1:]:
            for new_lock in new_locks:
                # Without --no-deps pip would want wheels of everything, and two packages come as source.
                target = ["--no-deps", "--target", scratch, "--python-version", ".".join(map(str, version))]
                _pip(python, log, "install", "--dry-run", "--ignore-installed", *target, "-r", str(new_lock))
        for new_lock in new_locks:
            shutil.copy(new_lock, ROOT / new_lock.name)
    _write_lock(CUDA_LOCK, _CUDA_HEADER, cuda)
    log.unlink()
    _print_changes({**cuda_before, **before}, {**cuda, **packages})
    _print_changes(docs_before, docs)
    print("now: make check smoke test docs")


def read_lock(path: Path) -> dict[str, str]:
    """Return the versions of a lock file, by name; markers are left out."""
    if not path.is_file():
        raise EnvironmentFault(f"{path.name} is missing; bring it back: git checkout {path.name}")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = (line.split(";")[0].split("==") for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): version.strip() for name, version in rows}


def lower_bounds(pyproject: str) -> dict[str, str]:
    """Return the lower bound of every dependency of a pyproject.toml, those of the tests' extras included."""
    import tomllib  # Python 3.11, which check_interpreter has made sure of

    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    bounds, lines = {}, [*project["dependencies"], *extras["dev"]]
    for line in lines:
        name = re.split(r"[^\w.-]", line)[0]
        if name == _OWN_NAME:  # further extras of its own, between brackets
            lines += [
                wanted for extra in re.split(r"[^\w-]+", line.partition("[")[2]) for wanted in extras.get(extra, [])
            ]
            continue
        bound = re.search(r">=\s*([\w.]+)", line)
        if bound is None:
            raise EnvironmentFault(f"pyproject.toml: {line!r} has no lower bound; write the oldest version that works")
        bounds[name] = bound[1]
    return bounds


def resolved_versions(report: dict[str, Any]) -> dict[str, str]:
    """Return the versions of pip's installation report by normal name, without the project and local build tags."""
    rows = (item["metadata"] for item in report["install"])
    versions = {re.sub(r"[-_.]+", "-", row["name"]).lower(): row["version"].split("+")[0] for row in rows}
    return {name: version for name, version in sorted(versions.items()) if name != _OWN_NAME}


def explain(output: str, python: str, machine: str, free: str) -> str:
    """Return what pip's output means for the user, with the remedy.

    Args:
        output: everything pip printed.
        python: version of the environment's Python, such as "3.12".
        machine: its processor, such as "x86_64".
        free: the free space of the disks that pip writes to, in words.
    """
    for pattern, message in _CAUSES:
        found = re.search(pattern, output)
        if found is not None:
            subject = next((group for group in found.groups() if group), found[0])
            return message.format(subject, python=python, machine=machine, free=free)
    errors = [line for line in output.splitlines() if re.match(r"\s*(ERROR|error|\w*Error)\b", line)]
    return errors[-1].strip() if errors else "pip ended without saying why"


def _install(kind: str, arguments: list[str], what: str) -> None:
    """Install into the environment of a kind and stamp it; pip's output goes to a log in its folder."""
    folder, start_s = FOLDERS[kind], time.monotonic()
    log = folder / "install.log"
    (folder / STAMP).unlink(missing_ok=True)
    python = _make_venv(folder, log)
    print(f"{folder.name}: installing {what}; this may take minutes; see {log.relative_to(ROOT)}", flush=True)
    locked = read_lock(LOCK)
    # First, because the pip that comes with Python knows no --build-constraint, which fixes the build backend too.
    _pip(python, log, "install", *(f"{name}=={locked[name]}" for name in ("pip", "setuptools")))
    _pip(python, log, "install", "--build-constraint", str(LOCK), *arguments)
    (folder / STAMP).write_text(kind + "\n")
    print(f"{folder.name}: ready after {time.monotonic() - start_s:.0f} s")


def _resolve(python: Path, log: Path, *wanted: str) -> dict[str, str]:
    """Return the versions that pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        _pip(python, log, "install", "--dry-run", "--ignore-installed", "--report", str(report), *wanted)
        return resolved_versions(json.loads(report.read_text(encoding="utf-8")))


def _make_venv(folder: Path, log: Path) -> Path:
    """Make an environment unless a sound one is there; empty its log and return its interpreter."""
    python = folder / "bin" / "python"
    probe = "import sys, pip; print(*sys.version_info[:2])"
    found = _output([str(python), "-I", "-c", probe]) if python.exists() else None
    if found is not None and tuple(map(int, found.split())) not in PYTHONS:
        version = ".".join(found.split())
        raise EnvironmentFault(f"{folder} holds Python {version}, which the lock does not fit; remove that folder")
    if found is None:
        command = [sys.executable, "-I", "-m", "venv", "--clear", str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise EnvironmentFault(f"{folder.name} could not be made: {_explain_here(done.stdout, folder)}")
    log.write_text("")
    return python


def _pip(python: Path, log: Path, *arguments: str) -> None:
    """Run the environment's pip and add what it prints to the log; raise what that means where pip fails."""
    # Isolated: neither PYTHONPATH nor the user's own packages take part.
    command = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    with open(log, "a+", encoding="utf-8", errors="replace") as file:
        start = file.tell()
        code = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        file.seek(start)
        output = file.read()
    if code != 0:
        reason = f"pip was ended by signal {-code}" if code < 0 else _explain_here(output, log.parent)
        raise EnvironmentFault(f"{reason} (pip's output: {os.path.relpath(log, ROOT)})")


def _output(command: list[str]) -> str | None:
    """Return what a command prints, None where it fails or does not start."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _explain_here(output: str, folder: Path) -> str:
    """Explain pip's output with what is known of the machine and of the environment in the folder."""
    config = folder / "pyvenv.cfg"
    version = re.search(r"^version\w* *= *(\d+\.\d+)", config.read_text() if config.exists() else "", re.MULTILINE)
    python = version[1] if version else ".".join(map(str, sys.version_info[:2]))
    places = {folder.name: folder.parent, "temporary files": Path(tempfile.gettempdir()), "pip's cache": Path.home()}
    free = (f"{shutil.disk_usage(place).free / 1e9:.1f} GB free for {name}" for name, place in places.items())
    return explain(output, python, platform.machine(), ", ".join(free))


def _write_lock(path: Path, header: str, versions: dict[str, str]) -> None:
    path.write_text(header + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))


def _print_changes(before: dict[str, str], after: dict[str, str]) -> None:
    for name in sorted({**before, **after}):
        old, new = before.get(name, "none"), after.get(name, "none")
        if old != new:
            print(f"{name}: {old} -> {new}")


if __name__ == "__main__":
    main()

"""The minor versions of TRL, transformers and DeepSpeed that the tests were run with, and a line for a newer one."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version

# Oldest and newest: from pyproject.toml's lower bound, which `make test-oldest` runs, to what the lock installs.
# The project uses parts of these three that they may change in any minor release.
TESTED = {"trl": ("1.16", "1.16"), "transformers": ("5.17", "5.24"), "deepspeed": ("0.19", "0.19")}

_SAID = "EPO_VERSIONS_CHECKED"  # in the environment, so that the processes of a run say it once between them


def warn_untested() -> None:
    """Print one line to stderr if an installed minor is newer than tested: once in a run, and on rank 0 alone."""
    if os.environ.get("RANK", "0") != "0" or _SAID in os.environ:
        return
    os.environ[_SAID] = "1"
    untested = [text for name, tested in TESTED.items() if (text := _untested(name, *tested)) is not None]
    if untested:
        print(
            f"warning: {'; '.join(untested)}; for tested ones: pip install -c requirements.lock -e .", file=sys.stderr
        )


def minor(release: str) -> tuple[int, int]:
    """Return the first two numbers of a version."""
    first, second = release.split(".")[:2]
    return int(first), int(second)


def _untested(name: str, oldest: str, newest: str) -> str | None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return None
    tested = oldest if oldest == newest else f"{oldest} to {newest}"
    return f"{name} {installed} is newer than the tested {tested}" if minor(installed) > minor(newest) else None

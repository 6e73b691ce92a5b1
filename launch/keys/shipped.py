"""Files that come with the project: recipes, parts, scripts and accelerate's settings, in a checkout or installed.

One rule for both: a path that begins with `recipes/` or `launch/` and is not there, seen from the working folder, is
looked for beside the installed packages. What the working folder holds comes first.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout's, or `site-packages`."""

_FOLDERS = ("recipes", "launch")


def find_shipped(path: str) -> str:
    """Return a path as it is, or that of the project's own file where the path names one that is not here."""
    parts = Path(path).parts
    if not parts or parts[0] not in _FOLDERS or ".." in parts or Path(path).exists():
        return path
    beside = ROOT / path
    return str(beside) if beside.is_file() else path


__all__ = ["ROOT", "find_shipped"]

"""The folder that stands in for the hub: what a recipe says of it holds for the whole process."""

import os
from typing import Any

from epo.part_names import PARTS_ROOT, parts_root


def receive_parts_root(recipe: Any) -> None:
    """Let a recipe's `parts_root` be that of this process and of those that it starts.

    Raises:
        PartError: there is no such folder.
    """
    said = getattr(recipe, "parts_root", None)
    parts_root(said)
    if said is not None:
        os.environ[PARTS_ROOT] = os.path.abspath(said)


__all__ = ["receive_parts_root"]

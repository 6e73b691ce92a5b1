"""Names of parts: a folder, or a name on the hub with its revision, which a folder of parts may stand in for.

A part is named as a user would: `runs/mine/sft`, `owner/name`, `owner/name@revision`, and with `/file.gguf` behind it a
language model in one file. Where a folder of parts is said (`parts_root` in a recipe, or the environment variable
`EPO_PARTS_ROOT`), a hub name is looked up there before the hub is asked:

    FOLDER/owner/name
    FOLDER/name
    FOLDER/name in small letters
    FOLDER/name in small letters without the `all-` that sentence-transformers puts before its general models
"""

import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from epo.extras import missing_extra
from epo.hub_reach import hub_answers

Found = TypeVar("Found")

PARTS_ROOT = "EPO_PARTS_ROOT"
"""Environment variable that names the folder of parts."""

# A name on the hub, and what may follow it. No component begins with a dot, so that none leaves the folder of parts.
_HUB_NAME = re.compile(r"(?:(?P<owner>\w[\w.-]*)/)?(?P<name>\w[\w.-]*)(?:@(?P<revision>[\w.][\w./-]*))?")


class PartError(ValueError):
    """A part of a model that is not there, not whole, or not what is asked for; the message says what to do."""


@dataclass(frozen=True)
class PartPlace:
    """Where a part is to be read from.

    Attributes:
        said: as the user named it.
        source: what `from_pretrained` is given: a folder of this machine, or a name on the hub.
        revision: that was asked for of a hub name; None for the newest.
        file: name of the `.gguf` file in it, None for a part in its usual form.
        is_local: whether `source` is a path of this machine, there or not.
        looked_at: folders that were tried for a hub name, in order.
    """

    said: str
    source: str
    revision: str | None = None
    file: str | None = None
    is_local: bool = True
    looked_at: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Further arguments of `from_pretrained`: the file, and for the hub its revision and whether to ask at all."""
        found: dict[str, Any] = {} if self.file is None else {"gguf_file": self.file}
        if self.is_local:
            return found
        found |= {} if self.revision is None else {"revision": self.revision}
        return found if hub_answers() else found | {"local_files_only": True}


def find_part(part: str, root: str | None = None) -> PartPlace:
    """Return where a part is to be read from, without asking the hub.

    Args:
        part: as a user names it.
        root: folder of parts; None takes the one that `EPO_PARTS_ROOT` names, if any.

    Raises:
        PartError: the folder of parts is none, or a folder of this machine is given a revision.
    """
    place, file = part, None
    if part.endswith(".gguf"):
        place, _, file = part.rpartition("/")
        place = "." if place == "" else place
    if Path(place).exists():
        return PartPlace(part, place, file=file)
    named = _HUB_NAME.fullmatch(place)
    if named is None or part.endswith(".json"):
        _refuse_revision(place)
        return PartPlace(part, place, file=file)
    name, revision = place.partition("@")[0], named["revision"]
    tried = _candidates(named["owner"], named["name"], parts_root(root))
    found = next((str(folder) for folder in tried if folder.is_dir()), None)
    looked_at = tuple(str(folder) for folder in tried)
    if found is not None:
        return PartPlace(part, found, revision, file, looked_at=looked_at)
    _refuse_revision(place)
    return PartPlace(part, name, revision, file, is_local=False, looked_at=looked_at)


def read_part(read: Callable[..., Found], place: PartPlace, **settings: Any) -> Found:
    """Return what a library reads of a part, or one line that says why it is not there.

    Args:
        read: such as `AutoConfig.from_pretrained`.
        place: of `find_part`.
        settings: further arguments of `read`.

    Raises:
        PartError: the part is not there.
        MissingExtraError: it is a `.gguf` file, and the package that reads those is not installed.
    """
    if place.file is not None and importlib.util.find_spec("gguf") is None:
        raise missing_extra(place.said, "gguf")
    try:
        return read(place.source, **place.settings, **settings)
    except (OSError, ValueError) as error:
        raise not_found(place, str(error).strip().splitlines()[0]) from error


def parts_root(root: str | None = None) -> Path | None:
    """Return the folder of parts that was said, None where none was.

    Raises:
        PartError: there is no such folder.
    """
    said = os.environ.get(PARTS_ROOT, "") if root is None else root
    if said == "":
        return None
    if not Path(said).is_dir():
        key = PARTS_ROOT if root is None else "parts_root"
        raise PartError(f"{key}: {said} is no folder; name the one that your models lie in, or leave it out")
    return Path(said)


def not_found(place: PartPlace, reason: str) -> PartError:
    """Return the error to raise where a part can be read from nowhere: all that was tried, and what to do.

    Args:
        place: of the part.
        reason: of the library that was to read it, in one line.
    """
    if place.is_local and Path(place.source).is_dir():
        return PartError(f"{place.said}: this folder does not hold the part as asked for ({reason})")
    if place.is_local:
        return PartError(f"{place.said}: neither a folder nor a reachable hub name holds this part ({reason})")
    tried = f" Looked at {', '.join(place.looked_at)} and the hub." if place.looked_at else ""
    target = f"{place.looked_at[0]}" if place.looked_at else place.source.rpartition("/")[2]
    pinned = "" if place.revision is None else f" --revision {place.revision}"
    remedy = (
        "" if place.looked_at else f" and name that folder, or one with all your parts as parts_root or {PARTS_ROOT}"
    )
    return PartError(
        f"{place.said}: neither a folder nor a reachable hub name holds this part ({reason}).{tried} Where there is a "
        f"connection: hf download {place.source}{pinned} --local-dir {target}{remedy}"
    )


def _candidates(owner: str | None, name: str, root: Path | None) -> list[Path]:
    if root is None:
        return []
    small = name.lower()
    names = dict.fromkeys((name, small, small.removeprefix("all-")))
    return [*([] if owner is None else [root / owner / name]), *(root / each for each in names)]


def _refuse_revision(place: str) -> None:
    """Refuse `folder@revision` where the folder is there: what lies in a folder has no revision."""
    folder, at, revision = place.rpartition("@")
    if at and Path(folder).is_dir():
        raise PartError(f"{place}: {folder} is a folder, which has no revision; leave @{revision} out")


__all__ = ["PARTS_ROOT", "PartError", "PartPlace", "find_part", "not_found", "parts_root", "read_part"]

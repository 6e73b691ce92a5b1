"""Folders of models to test: what a row is called, and which model an adapter belongs to."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

ADAPTER = "adapter_config.json"


class FolderError(ValueError):
    """A folder that holds nothing to test, or is named twice; the message names it."""


def row_names(paths: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return a name for each path: its last part, with as many parts before it as tell it from the others.

    Args:
        paths: of folders, or of files, whose ending goes.
        taken: names that other rows have.

    Raises:
        FolderError: two paths are one place.
    """
    places = [Path(path).resolve() for path in paths]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise FolderError(f"{paths[index]}: is tested already, as {paths[places.index(place)]}; name it once")
    return [_name(place, [other for other in places if other != place], taken) for place in places]


def base_folder(adapter: str) -> str:
    """Return the folder of the model that an adapter was trained on.

    A relative path in its `adapter_config.json` counts from the folder that training was started in. That is looked
    for among the folders above the adapter, the nearest first, so that a run which was moved as a whole is found; then
    in the current folder.

    Raises:
        FolderError: the folder holds no adapter, or the model is not there.
    """
    config = Path(adapter) / ADAPTER
    try:
        named = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise FolderError(f"{config}: cannot be read ({error}); make the adapter with launch/epo.py") from error
    if not isinstance(named, str) or not named:
        raise FolderError(f"{config}: names no base_model_name_or_path; name the model it belongs to under sft")
    for start in (*Path(adapter).resolve().parents, Path()):
        if (start / named).is_dir():
            return str(start / named)
    raise FolderError(
        f"{adapter}: belongs to the model {named}, which is not there; bring it, or name it under sft and the adapter "
        "under epo"
    )


def is_adapter(folder: str) -> bool:
    """Tell whether a folder holds an adapter rather than a whole model.

    Raises:
        FolderError: it holds neither.
    """
    place = Path(folder)
    if (place / ADAPTER).is_file():
        return True
    if not (place / "config.json").is_file():
        what = "holds no model" if place.is_dir() else "no such folder"
        raise FolderError(f"{folder}: {what}; want a folder written by launch/sft.py or launch/epo.py")
    return False


def is_whole(folder: str) -> bool:
    """Tell whether a folder holds a whole model and no adapter; not where neither is there."""
    return (Path(folder) / "config.json").is_file() and not (Path(folder) / ADAPTER).is_file()


def thinks_in_labels(folder: str) -> bool:
    """Tell whether the model of a folder names the user's emotion before it replies; not where none is there."""
    try:
        config = json.loads((Path(folder) / "processor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("think") == "label"


__all__ = ["ADAPTER", "FolderError", "base_folder", "is_adapter", "is_whole", "row_names", "thinks_in_labels"]


def _name(place: Path, others: Sequence[Path], taken: Collection[str]) -> str:
    parts = (*place.parts[:-1], place.stem if place.is_file() else place.name)
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if name not in taken and not any(_ends_alike(place, other, count) for other in others):
            return name
    return str(place)


def _ends_alike(first: Path, second: Path, count: int) -> bool:
    return first.parts[-count:] == second.parts[-count:]

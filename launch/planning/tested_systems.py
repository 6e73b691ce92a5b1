"""The systems that an evaluation tests: the folders and names behind its rows, and what each row is made from."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from epo.evaluation.folders import base_folder, is_adapter, is_whole, row_names
from epo.evaluation.kept_rows import Made
from epo.evaluation.suite import Kind
from epo.part_names import PartError, find_part
from launch.folder.digests import part_record
from launch.folder.identity import Identity
from launch.planning.pipeline_files import require_something_tested

_BASELINES = frozenset({"majority"})
_SYSTEMS = ("models", "chat_models", "sft", "control", "epo", "answers")
_OF_NUMBERS = (
    "suites", "pairs", "emotion_judge", "judge_embeddings", "judge_data", "bert_score_model", "bert_score_layer", "vad",
    "vad_extractor",
)  # fmt: skip
"""Keys that change how replies are scored, and not what is replied; another key changes both."""

_OF_ROWS = ("variants", "rollout", "stress")
"""Keys that say which rows there are, and change none."""


@dataclass(frozen=True)
class System:
    """A model to load when its turn comes.

    Attributes:
        name: of its row.
        folder: of the whole model, or the name of a chat model.
        adapter: folder of the LoRA on it, None where there is none.
        kind: of its row; what is tested itself is tested with changed clips and memories too.
        is_chat: whether it is a chat model, which is told the words alone.
    """

    name: str
    folder: str
    adapter: str | None
    kind: Kind
    is_chat: bool = False


def systems_of(recipe: Any) -> list[System]:
    """Return the models that a recipe tests, in the order of their rows.

    Raises:
        RecipeError: nothing is tested.
        FolderError: a folder of `models` holds nothing to test, is named twice, or an adapter's model is not there.
        PartError: a chat model's name cannot be one.
    """
    require_something_tested(recipe)
    found = []
    if recipe.sft is not None:
        found.append(System("sft", recipe.sft, None, "base"))
    if recipe.control is not None:
        found.append(System("sft+chosen", recipe.control, None, "base"))
    if recipe.epo is not None and is_whole(recipe.epo):
        found.append(System("sft+epo", recipe.epo, None, "main"))
    elif recipe.epo is not None:
        base = base_folder(recipe.epo) if recipe.sft is None else recipe.sft
        found.append(System("sft+epo", base, recipe.epo, "main"))
    named = [recipe.sft, recipe.control, recipe.epo]
    paths = [*(path for path in named if path is not None), *(recipe.models or ())]
    names = row_names(paths, _BASELINES | {system.name for system in found})[len(found) :]
    for name, folder in zip(names, recipe.models or (), strict=True):
        is_lora = is_adapter(folder)
        found.append(System(name, base_folder(folder) if is_lora else folder, folder if is_lora else None, "main"))
    taken = _BASELINES | {system.name for system in found}
    chat_names = row_names(recipe.chat_models or (), taken)
    for name, model in zip(chat_names, recipe.chat_models or (), strict=True):
        _require_chat_model(model)
        found.append(System(name, model, None, "main", is_chat=True))
    return found


def taken_names(recipe: Any) -> set[str]:
    """Return the names of rows that files of replies may not have."""
    return set(_BASELINES) | {system.name for system in systems_of(recipe)}


def rows_made(
    identity: Identity, systems: Sequence[System], read: Mapping[str, Sequence[Any]]
) -> Callable[[str], Made]:
    """Return a function that says what the row of a name is made from.

    Args:
        identity: of the whole evaluation.
        systems: that are tested.
        read: what lies in files of replies, by the names of their rows.
    """
    settings = {key: value for key, value in identity.settings.items() if key not in _OF_ROWS}
    inputs = {
        key: value["content"] + value.get("clips", "")
        for key, value in identity.inputs.items()
        if key.partition("[")[0] not in _SYSTEMS
    }
    of_replies = [
        {key: value for key, value in values.items() if key.partition("[")[0] not in _OF_NUMBERS}
        for values in (settings, inputs)
    ]
    by_name = {system.name: system for system in systems}
    reference = next((system for system in systems if system.name == "sft"), None)

    @cache
    def made(name: str) -> Made:
        who = _content(name, by_name, read)
        compared = None if reference is None else _content(reference.name, by_name, read)
        return Made(_digest(name, who, *of_replies), _digest(name, who, compared, settings, inputs))

    return made


def _content(name: str, systems: Mapping[str, System], read: Mapping[str, Sequence[Any]]) -> Any:
    """Return what stands behind a row: replies, or models by their content; a changed test has its model's.

    A row of a cascade has none of its own: what it is made from is among the inputs of the evaluation.
    """
    if name in read:
        return list(read[name])
    system = systems.get(name) or systems.get(name.rpartition(", ")[0])
    if system is None:
        return []
    parts = (system.folder, system.adapter)
    return [None if part is None else part_record(part)["content"] for part in parts]


def _digest(*things: Any) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _require_chat_model(name: str) -> None:
    """Refuse a path without a model before anything is loaded; a name on the hub is left to the hub.

    Raises:
        PartError: there is none.
    """
    place = find_part(name)
    if place.is_local and place.file is None and not name.endswith(".json"):
        if not Path(place.source, "config.json").is_file():
            raise PartError(f"chat_models: {name}: no such folder with a model; want a folder or a hub name")


__all__ = ["System", "rows_made", "systems_of", "taken_names"]

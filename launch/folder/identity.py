"""Identity of a stage: the settings that matter, what its files hold and which parts it was built on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.folder.digests import clips_digest, corpus_digest, file_digest, part_record
from launch.keys.roles import Role, role_of
from launch.processes.credentials import redact_mapping


@dataclass(frozen=True)
class Identity:
    """What made a result. Two runs with the same identity make the same thing.

    Attributes:
        settings: keys that matter, as text.
        layout: keys that spread a batch over ranks and memory, as text.
        defaults: what these keys are when nobody sets them, so that a key the project got since changes nothing.
        inputs: by key what it names (`path`), what that holds (`content`) and, where they matter, its `clips`; of a
            part named as on the hub its commit (`revision`), or the `folder` that stood in for it.
    """

    settings: dict[str, str]
    layout: dict[str, str]
    defaults: dict[str, str]
    inputs: dict[str, dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """Return plain dicts; `identity_of` is the inverse."""
        return dataclasses.asdict(self)


def identity_of(row: Any) -> Identity | None:
    """Return the identity that a record holds, None where it holds none: of another version, or edited by hand."""
    names = [field.name for field in dataclasses.fields(Identity)]
    if (
        not isinstance(row, dict)
        or sorted(row) != sorted(names)
        or not all(isinstance(row[name], dict) for name in row)
    ):
        return None
    if not all(isinstance(seen, dict) and {"path", "content"} <= seen.keys() for seen in row["inputs"].values()):
        return None
    return Identity(**row)


def identify(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    num_ranks: int,
    reads_clips: bool,
    own_roles: Mapping[str, Role] | None = None,
) -> Identity:
    """Return the identity of a stage.

    Args:
        values: its declared settings, of `launch.recipe.declared`.
        defaults: what each of them is where nobody sets it.
        num_ranks: processes it runs on.
        reads_clips: whether the recordings that its dialogues name go into its result.
        own_roles: what the recipe's classes say of their keys, of `launch.keys.roles.own_roles`.

    Raises:
        OSError: an input that exists cannot be read.
    """
    settings: dict[str, str] = {}
    layout, inputs = {"num_ranks": str(num_ranks)}, dict[str, dict[str, str]]()
    shown = redact_mapping(values)  # an identity is stored: the same recipe with another password is the same
    for key, value in values.items():
        role = role_of(key, own_roles)
        if role == "matters":
            settings[key] = str(shown[key])
        elif role == "layout":
            layout[key] = str(value)
        elif role != "cosmetic" and value not in (None, "", []):
            with_clips = reads_clips and key in ("data", "voices")
            if isinstance(value, list):
                named = zip(value, shown[key], strict=True)
                inputs |= {
                    f"{key}[{i}]": _input(role, path, values, str(seen), with_clips)
                    for i, (path, seen) in enumerate(named)
                }
            else:
                inputs[key] = _input(role, value, values, str(shown[key]), with_clips)
    kept = {key: str(value) for key, value in defaults.items() if key in settings or key in layout}
    return Identity(settings, layout, kept, inputs)


def changes(old: Identity, new: Identity) -> list[str]:
    """Return, one phrase each, why `new` would be another result than `old`; nothing where it would be the same."""
    found = _setting_changes(old.settings, new.settings, old.defaults | new.defaults)
    for key in sorted(old.inputs.keys() | new.inputs.keys()):
        found += _input_changes(key, old.inputs.get(key), new.inputs.get(key))
    return found


def layout_changes(old: Identity, new: Identity) -> list[str]:
    """Return, one phrase each, why `new` cannot go on from a checkpoint of `old`."""
    return _setting_changes(old.layout, new.layout, old.defaults | new.defaults)


def _input(role: str, value: Any, values: Mapping[str, Any], shown: str, with_clips: bool = False) -> dict[str, str]:
    return {"path": shown} | _digests(role, str(value), values, with_clips)


def _digests(role: str, value: str, values: Mapping[str, Any], with_clips: bool) -> dict[str, str]:
    if role == "part":
        return part_record(value, values.get("parts_root"))
    if role == "corpus":
        return {"content": corpus_digest(Path(value), without=Path(str(values["output_dir"])))}
    content = {"content": file_digest(Path(value))}
    return content | {"clips": clips_digest(Path(value))} if with_clips else content


def _setting_changes(old: Mapping[str, str], new: Mapping[str, str], defaults: Mapping[str, str]) -> list[str]:
    """Compare settings; one that only one side knows is compared with its default."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = (values.get(key, defaults.get(key, "not set")) for values in (old, new))
        if before != after:
            found.append(f"{key}: {before} -> {after}")
    return found


def _input_changes(key: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    if old is None or new is None:
        return [f"{key}: {'none' if old is None else old['path']} -> {'none' if new is None else new['path']}"]
    if old["content"] != new["content"]:
        return [f"{key}: {new['path']} has changed"]
    if "clips" in old and "clips" in new and old["clips"] != new["clips"]:
        return [f"{key}: a recording named in {new['path']} has changed"]
    return []

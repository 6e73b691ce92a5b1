"""Before training goes on from an adapter: it must be one, and must have been trained on this very model."""

import json
from pathlib import Path

from epo.part_names import PartError
from launch.folder.digests import part_record


def require_trained_on(adapter: str, model: str, parts_root: str | None = None) -> None:
    """Refuse an adapter whose record says that it was trained on another model; weights of the same sizes would load.

    Args:
        adapter: folder written by launch/epo.py.
        model: as the recipe names it.
        parts_root: folder of parts (`epo.part_names`).

    Raises:
        PartError: the folder holds no adapter, or one of another model. One without a record is let through.
    """
    if not (Path(adapter) / "adapter_model.safetensors").is_file():
        raise PartError(f"adapter: {adapter} holds no adapter (adapter_model.safetensors); run launch/epo.py first")
    record = Path(adapter) / "identity.json"
    if not record.is_file():
        return
    trained_on = json.loads(record.read_text(encoding="utf-8"))["inputs"].get("model")
    if trained_on is not None and trained_on["content"] != part_record(model, parts_root)["content"]:
        raise PartError(
            f"adapter: {adapter} was trained on the model {trained_on['path']} as it was then, which {model} is not; "
            "name that model, or train the adapter anew"
        )

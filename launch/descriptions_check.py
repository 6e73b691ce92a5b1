"""Before EPO goes on from a model that reads descriptions: they must be those that the model was tuned with."""

import json
from pathlib import Path

from launch.folder.digests import file_digest
from launch.recipe import RecipeError


def require_same_descriptions(model: str, data: str, descriptions: str | None) -> None:
    """Refuse descriptions that are not those of SFT, for the same dialogues: the model learnt to read others.

    Args:
        model: folder of launch/sft.py, whose record tells what it was tuned with.
        data: the dialogues; where SFT had others, it had other descriptions, too.
        descriptions: the recipe's key; None names none.

    Raises:
        RecipeError: they differ in content. A model without a record is let through.
    """
    record = Path(model) / "identity.json"
    if descriptions is None or not record.is_file():
        return
    inputs = json.loads(record.read_text(encoding="utf-8"))["inputs"]
    told, dialogues = inputs.get("descriptions"), inputs.get("data")
    if told is None or dialogues is None or dialogues["content"] != file_digest(Path(data)):
        return
    if told["content"] != file_digest(Path(descriptions)):
        raise RecipeError(
            f"descriptions: {descriptions} is not what {model} was tuned with, {told['path']} as it was then; name "
            "that file, or tune the model anew"
        )


__all__ = ["require_same_descriptions"]

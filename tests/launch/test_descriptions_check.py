"""EPO with other descriptions than those that its model was tuned with."""

import json

import pytest

from launch.descriptions_check import require_same_descriptions
from launch.folder.digests import file_digest
from launch.recipe import RecipeError


def test_other_descriptions_of_the_same_dialogues_are_refused_naming_both(tmp_path):
    data, told, other, model = (tmp_path / name for name in ("d.jsonl", "told.jsonl", "other.jsonl", "sft"))
    for path, text in ((data, "d"), (told, "The brows rise."), (other, "The lids sink.")):
        path.write_text(text)
    model.mkdir()
    require_same_descriptions(str(model), str(data), str(other))  # nobody says what it was tuned with
    inputs = {name: {"path": f"runs/{name}", "content": file_digest(path)} for name, path in (("data", data),)}
    record = model / "identity.json"
    record.write_text(json.dumps({"inputs": inputs}))
    require_same_descriptions(str(model), str(data), str(other))  # with none
    inputs["descriptions"] = {"path": "runs/told.jsonl", "content": file_digest(told)}
    record.write_text(json.dumps({"inputs": inputs}))
    require_same_descriptions(str(model), str(data), str(told))
    require_same_descriptions(str(model), str(data), None)
    require_same_descriptions(str(model), str(told), str(other))  # other dialogues: theirs are others
    with pytest.raises(RecipeError, match=r"descriptions: .*other.jsonl is not what .*sft was tuned with, runs/told.j"):
        require_same_descriptions(str(model), str(data), str(other))

"""An exported model says what the trained one said, by itself, and its card tells where it comes from."""

import json

import pytest
import torch
from peft import get_peft_model

import epo
from epo.model.export import ExportError
from epo.part_names import PartError
from epo.training.lora import lora_config


@pytest.fixture
def trained(make_model, tmp_path):
    """Folders of a model with low-rank changes and of an adapter, and what both say together of a batch."""
    model, processor = make_model()
    name = "language_model.model.layers.0.mlp.up_proj"
    model.config.low_rank = {name: 2}
    from epo.model.low_rank import add_low_rank

    torch.manual_seed(3)
    add_low_rank(model, model.config.low_rank)
    for part in ("up", "down"):
        getattr(model.get_submodule(name), part).data.normal_(std=0.3)
    model.save_pretrained(tmp_path / "sft")
    processor.save_pretrained(tmp_path / "sft")
    policy = get_peft_model(model, lora_config(model, 2, 4, 0.0))
    for parameter_name, parameter in policy.named_parameters():
        if ".lora_B." in parameter_name:
            parameter.data.normal_(std=0.1)
    policy.save_pretrained(tmp_path / "epo")
    ids = torch.arange(5, 25).unsqueeze(0)
    with torch.no_grad():
        said = policy.eval()(input_ids=ids).logits
    inputs = {"pairs": {"path": "/secret/place/pairs.jsonl", "content": "ab" * 32}}
    (tmp_path / "epo" / "identity.json").write_text(json.dumps({"inputs": inputs}))
    (tmp_path / "epo" / "recipe.yaml").write_text("beta: 0.2\nhub_token: hf_abcdefghijklmnopqrst\n")
    (tmp_path / "epo" / "stage.json").write_text(json.dumps({"results": {"validation/reward_accuracy": 0.875}}))
    return tmp_path, ids, said


@pytest.mark.parametrize(("dtype", "gap"), [("float32", 1e-4), ("bfloat16", 0.5)])
def test_a_merged_model_says_the_same_by_itself(trained, dtype, gap):
    folder, ids, said = trained
    out = epo.export_model(str(folder / "sft"), folder / dtype, adapter=str(folder / "epo"), dtype=dtype)
    model, _ = epo.load_model(str(out))
    assert not model.config.low_rank and not [n for n in model.state_dict() if n.endswith((".up", ".down"))]
    assert json.loads((out / "config.json").read_text())["dtype"] == dtype
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(input_ids=ids).logits.float(), said, atol=gap, rtol=gap)
    card = (out / "README.md").read_text()
    for told in ("pairs.jsonl", "ab" * 32, "beta: 0.2", "reward_accuracy | 0.875", "## Limits", "epo.load_model"):
        assert told in card
    assert "hf_abc" not in card and "/secret/place" not in card
    assert ("rounded to bfloat16" in card) == (dtype == "bfloat16")


def test_an_adapter_is_exported_alone(trained):
    folder, ids, said = trained
    out = epo.export_model(str(folder / "sft"), folder / "lora", adapter=str(folder / "epo"), form="adapter")
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors"
    ]  # fmt: skip
    policy = epo.load_adapter(epo.load_model(str(folder / "sft"))[0], str(out))
    with torch.no_grad():
        torch.testing.assert_close(policy.eval()(input_ids=ids).logits, said, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"out": "sft"}, ExportError, "sft is there already; name a folder that is not"),
        ({"adapter": None, "form": "adapter"}, ExportError, "no adapter is named; name the folder"),
        ({"report": "gone.json"}, ExportError, "gone.json: no such report"),
        ({"adapter": "sft"}, PartError, "sft: has no adapter_model.safetensors; make it with launch/epo.py"),
        ({"adapter": "sft", "form": "adapter"}, PartError, "sft: has no adapter_config.json; make it with"),
    ],
)
def test_what_cannot_be_exported_is_told(trained, changes, error, message):
    folder, _, _ = trained
    settings = {"model": "sft", "out": "out", "adapter": "epo"} | changes
    for key in ("model", "out", "adapter"):
        settings[key] = None if settings[key] is None else str(folder / settings[key])
    with pytest.raises(error, match=message) as caught:
        epo.export_model(**settings)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists()

"""`tune: all`, as a user runs it: a whole model comes out, which every later stage takes as it takes one of SFT."""

import contextlib
import json
import sys
from types import SimpleNamespace

import pytest
import yaml
from transformers import TrainerCallback

from launch import epo, evaluate, talked_model
from epo.evaluation.folders import is_whole
from epo.part_names import PartError
from launch.recipe import RecipeError

_TRAINING = {
    "max_steps": 2, "per_device_train_batch_size": 4, "global_batch_size": 4, "logging_steps": 1, "use_cpu": True,
    "save_steps": 1, "disable_tqdm": True, "learning_rate": 1e-2, "bf16": False, "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture
def start(tmp_path, monkeypatch, corpus):
    """Run a stage in this process without MLflow; returns its folder."""

    @contextlib.contextmanager
    def record(*args):
        yield SimpleNamespace(callback=TrainerCallback, log_metrics=lambda values: None, log_artifact=lambda path: None)

    monkeypatch.setattr(epo, "open_run", record)
    monkeypatch.setattr(evaluate, "open_run", record)

    def start(module, name, **keys):
        path, out = tmp_path / f"{name}.yaml", tmp_path / name
        data = {"data": str(corpus / "dialogues.jsonl"), "pairs": str(corpus / "pairs.jsonl")}
        path.write_text(yaml.safe_dump({"output_dir": str(out), "pipeline": "tiny"} | data | keys))
        monkeypatch.setattr(sys, "argv", ["launch/stage.py", "--config", str(path)])
        module.run()
        return out

    return start


@pytest.fixture
def sft(make_model, tmp_path):
    """The folder of a model with a system prompt, so that more than weights is carried over."""
    for half in make_model(system_prompt="Be kind."):
        half.save_pretrained(tmp_path / "sft")
    return str(tmp_path / "sft")


@pytest.mark.slow
def test_rounds_of_all_weights_are_models_like_any_other(start, sft, tmp_path, capsys):
    """A round, and a second one from its folder; the evaluation takes the first as `epo`, the second among `models`."""
    kept = {"tune": "all", "reference_cache": str(tmp_path / "reference")}
    first = start(epo, "first", model=sft, **kept, **_TRAINING)
    said = capsys.readouterr().out
    assert "reference: 0 of 8 pairs are known, 8 are scored" in said and "reference: 0 of 2 pairs are known" in said
    results = json.loads((first / "stage.json").read_text())["results"]
    assert results["validation/reward_margin"] != 0 and 0 <= results["validation/reward_accuracy"] <= 1
    assert is_whole(str(first)) and not list(first.glob("*.bin"))
    assert json.loads((first / "processor_config.json").read_text())["system_prompt"] == "Be kind."
    second = start(epo, "second", model=str(first), **kept, **_TRAINING)
    assert len(list((tmp_path / "reference").iterdir())) == 2  # each round has its own reference
    report = start(
        evaluate, "report", sft=sft, epo=str(first), models=[str(second)], max_new_tokens=4, variants=False,
        sampled=False, suites=["rewards"],
    )  # fmt: skip
    rows = {row["name"]: row for row in json.loads((report / "report.json").read_text())["rows"]}
    assert rows["sft"]["reward_margin"] == 0.0
    margins = [rows[name]["reward_margin"] for name in ("sft+epo", "second")]
    assert 0 not in margins and margins[0] != margins[1]
    assert talked_model.chosen(str(first), None) == (str(first), None)
    with pytest.raises(PartError, match="bfloat16 would round away what it learnt"):
        start(epo, "rounded", model=str(first), **kept, **(_TRAINING | {"bf16": True}))


def test_what_the_reference_is_not_there_to_read_is_refused_before_anything_is_written(start, sft, tmp_path):
    kept = {"tune": "all", "reference_cache": str(tmp_path / "reference")}
    with pytest.raises(
        ValueError, match="conditional_weight is 0.5, which lets .* but tune is 'all', .*, or set tune: l"
    ):
        start(epo, "out", model=sft, conditional_weight=0.5, **kept, **_TRAINING)
    with pytest.raises(RecipeError, match="quantize: with tune: all the language model's weights train, and those"):
        start(epo, "out", model=sft, quantize="8bit", **kept, **_TRAINING)
    assert not (tmp_path / "out").exists()

"""`data import-pairs` as a user runs it, and what EPO and its control make of pairs that people ranked."""

import json
import sys

import pytest
import yaml

from launch.data_verbs import importing_pairs
from launch.recipe import RecipeError


def write_rankings(path, count):
    rows = [
        {
            "q": f"I lost key number {i}.",
            "a": [{"role": "assistant", "content": f"I am sorry about key {i}. Shall we look for it?"}],
            "b": [{"role": "assistant", "content": "So what."}],
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_verb_says_what_it_wrote(tmp_path, capsys):
    file = write_rankings(tmp_path / "r.jsonl", 40)
    importing_pairs.run([str(file), "--out", str(tmp_path / "out"), "--columns", "prompt=q,chosen=a,rejected=b"])
    said = capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert sum(card["pairs"].values()) == 40 and f"pairs: {card['pairs']['train']} train" in said
    assert "wrote" in said and card["rankings"] == "r.jsonl"
    importing_pairs.run([
        str(file), "--out", str(tmp_path / "few"), "--columns", "prompt=q,chosen=a,rejected=b", "--test_share", "0",
    ])  # fmt: skip
    assert "no test pairs: with few prompts" in capsys.readouterr().out


def test_columns_that_mean_nothing_are_refused():
    with pytest.raises(RecipeError, match="columns: 'reply=a': want NAME=COLUMN with a name of prompt"):
        importing_pairs.parse_columns("chosen=b,reply=a")


def test_a_stage_says_what_is_odd_about_its_files(tmp_path, capsys):
    from launch.training import open_corpus, open_pairs

    file = write_rankings(tmp_path / "r.jsonl", 3)
    importing_pairs.run([str(file), "--out", str(tmp_path), "--columns", "prompt=q,chosen=a,rejected=b"])
    data, pairs = tmp_path / "dialogues.jsonl", tmp_path / "pairs.jsonl"
    data.write_text(data.read_text() + "\n")
    lines = pairs.read_text().splitlines()
    pairs.write_text("\n".join([*lines, lines[0], lines[0].replace("prompt-", "gone-")]))
    capsys.readouterr()
    assert len(open_pairs(str(pairs), {dialogue.id: dialogue for dialogue in open_corpus(str(data))})) == 4
    assert capsys.readouterr().out.splitlines() == [
        f"{data}: noted: 1 x blank line",
        f"{pairs}: noted: 1 x pair that comes twice",
        f"{pairs}: noted: 1 x pair of a dialogue that is not there: left out",
    ]


@pytest.mark.slow
def test_epo_and_its_control_learn_from_them(tmp_path, monkeypatch, make_model):
    from launch import epo, sft
    from epo.model.saving import save_weights

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model, processor = make_model()
    save_weights(model.config, model.state_dict(), tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    file = write_rankings(tmp_path / "r.jsonl", 40)
    importing_pairs.run([str(file), "--out", str(tmp_path / "data"), "--columns", "prompt=q,chosen=a,rejected=b"])
    common = {
        "data": str(tmp_path / "data" / "dialogues.jsonl"), "pairs": str(tmp_path / "data" / "pairs.jsonl"),
        "model": str(tmp_path / "model"), "max_steps": 1, "per_device_train_batch_size": 4, "global_batch_size": 4,
        "logging_steps": 1, "save_steps": 1, "use_cpu": True, "disable_tqdm": True, "lora_rank": 4, "lora_alpha": 8,
        "learning_rate": 1e-3,
    }  # fmt: skip
    own = {"epo": {"bf16": False}, "sft": {"trainable": ["lora_"], "emotion_weight": 0.0}}
    for name, module in (("epo", epo), ("sft", sft)):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump(common | own[name] | {"output_dir": str(tmp_path / name)}))
        monkeypatch.setattr(sys, "argv", [f"launch/{name}.py", "--config", str(recipe)])
        module.run()
        results = json.loads((tmp_path / name / "stage.json").read_text())["results"]
        assert results["train/loss"] > 0
        if name == "epo":
            assert 0 <= results["validation/reward_accuracy"] <= 1

"""No key of evaluate.py without an effect: each is changed, and something else is about to be compared.

The stage is run up to the comparison, its models replaced by what they would be loaded from; what generation and
scoring make of the rest is tested in tests/evaluation. The table must name every key.
"""

import contextlib
import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from launch import evaluate
from epo.evaluation.suite import Answers

ELSEWHERE = {
    "fresh",
    "run",
    "parts_root",
}  # as of every stage: test_stage_folder.py, test_run_names.py, test_parts_root.py
CHANGES = {
    "data": ("@other", "gold"),
    "descriptions": ("@told", "gold"),
    "transcripts": ("@heard", "gold"),
    "cascade": ("lm", "systems"),
    "cascade_extractor": ("heard", "systems"),
    "models": (["@model2"], "systems"),
    "answers": (["@said"], "systems"),
    "chat_models": (["@model2"], "systems"),
    "chat_system_prompt": ("Be kind.", "prompts"),
    "sft": ("@model2", "systems"),
    "control": ("@model2", "systems"),
    "epo": ("@adapter2", "systems"),
    "pairs": ("@other_pairs", "pairs"),
    "vad": ("@vad", "courses"),
    "vad_extractor": ("measuring", "courses"),
    "suites": (["overlap", "lengths"], "suites"),
    "split": ("validation", "gold"),
    "variants": (False, "systems"),
    "sampled": (False, "sampled"),
    "stress": (["noise=10", "blur=2.5", "oracle"], "systems"),
    "rollout": (True, "systems"),
    "replies": ("all", "gold"),
    "max_dialogues": (1, "gold"),
    "max_new_tokens": (5, "generation"),
    "batch_size": (3, "generation"),
    "bert_score_model": ("some/encoder", "encoder"),
    "bert_score_layer": (3, "encoder"),
    "dtype": ("bfloat16", "systems"),
    "quantize": ("8bit", "systems"),
    "cache_dir": ("cache", "caches"),
    "seed": (7, "seed"),
    "emotion_judge": ("some/model", "judge"),
    "judge_embeddings": ("other/sentences", "judge"),
    "judge_data": (["labelled"], "judge"),
    "judge_cache": ("judged", "judge"),
    "pipeline": ("other", "run"),
    "experiment": ("other", "run"),
    "output_dir": ("elsewhere", "run"),
}
_EMBEDDINGS = {"emotion_judge": "embeddings", "judge_embeddings": "some/sentences"}
BESIDE = {
    "chat_system_prompt": {"chat_models": ["@model2"]},
    "cascade_extractor": {"cascade": "lm"},
    "bert_score_layer": {"bert_score_model": "some/encoder"},
    "judge_embeddings": _EMBEDDINGS,
    "judge_cache": _EMBEDDINGS,
}


def test_the_table_names_every_key():
    (own,) = evaluate.RECIPES
    assert CHANGES.keys() | ELSEWHERE == {field.name for field in dataclasses.fields(own)}


@pytest.fixture
def start(corpus, tmp_path, monkeypatch):
    """Run the stage up to its comparison; returns what would be compared."""
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for row in rows:
        for turn in row["turns"]:
            turn.pop("clip", None)
    pairs = (corpus / "pairs.jsonl").read_text()
    _write("data", rows)
    _write("other", [row | {"turns": row["turns"][:-1] + [row["turns"][-1] | {"text": "Well."}]} for row in rows])
    _write("labelled", rows)
    _write("heard", [{"dialogue_id": row["id"], "turn": 2, "text": "We poke a gain."} for row in rows])
    _write("told", [{"dialogue_id": row["id"], "turn": 2, "description": "The chin drops."} for row in rows])
    _write("said", [{"dialogue_id": "d10", "turn": 3, "reply": "Yes."}])
    _write("vad", [{"dialogue_id": "d10", "turn": 3, "speaker": "assistant", "vad": [[0.1, 0.2, 0.3]]}])
    (tmp_path / "pairs").write_text(pairs)
    (tmp_path / "other_pairs").write_text(pairs.replace("Stop it", "Leave it"))
    for folder in ("model", "model2", "adapter", "adapter2"):
        (tmp_path / folder).mkdir()
        name = "adapter_config.json" if folder.startswith("adapter") else "config.json"
        (tmp_path / folder / name).write_text('{"base_model_name_or_path": "model"}')
    seen: dict[str, object] = {}

    @contextlib.contextmanager
    def record(stage, pipeline, experiment, out, keys):
        seen["run"] = (pipeline, experiment, str(out))
        yield None

    monkeypatch.setattr(evaluate, "open_run", record)
    monkeypatch.setattr(evaluate, "prepare", lambda chosen, task: None)
    monkeypatch.setattr(
        evaluate, "load_model", lambda folder, dtype, quantize: (_Loaded((folder, dtype, quantize)), None)
    )
    monkeypatch.setattr(evaluate, "load_text_model", lambda folder, dtype, quantize: _Loaded((folder, dtype, quantize)))
    monkeypatch.setattr(evaluate, "load_tokenizer", lambda folder, texts: None)
    monkeypatch.setattr(evaluate, "load_adapter", lambda model, folder: _Loaded((*model.where, folder)))

    def cascade_rows(recipe, *rest):
        return [Answers("cascade", [recipe.cascade, recipe.cascade_extractor])]

    def measured(folder, cache_dir, task, dialogues, device):
        return task if folder is None else dataclasses.replace(task, vad=[SimpleNamespace(vad=np.ones((1, 3)))])

    monkeypatch.setattr(evaluate, "cascade_rows", cascade_rows)
    monkeypatch.setattr(evaluate, "with_measured_courses", measured)

    class UpToHere(Exception):
        pass

    def compare(entrants, task, chosen, generation, keep):
        entrants = list(entrants)
        models = [entrant for entrant in entrants if hasattr(entrant, "model")]
        seen.update(
            systems=[(e.name, e.model.where if hasattr(e, "model") else getattr(e, "replies", None)) for e in entrants],
            caches={entrant.build.cache._folder for entrant in models if hasattr(entrant, "build")},
            sampled=[entrant.is_sampled for entrant in models if hasattr(entrant, "is_sampled")],
            prompts=[entrant.system_prompt for entrant in models if hasattr(entrant, "system_prompt")],
            gold=[
                (reply.dialogue_id, reply.turn, reply.text, reply.current.text, reply.current.description)
                for reply in task.gold
            ],
            pairs=[pair.rejected for pair in task.pairs],
            suites=list(chosen.suites),
            generation=generation,
            encoder=(task.bert_score_model, task.bert_score_layer),
            seed=task.seed,
            courses=[course.vad.tolist() for course in task.vad],
            judge=task.judge,
        )
        raise UpToHere

    monkeypatch.setattr(evaluate, "compare", compare)
    base = {"data": "data", "pairs": "pairs", "sft": "model", "epo": "adapter", "output_dir": "out"}

    def start(**changes):
        keys = {key: _placed(value) for key, value in (base | changes).items()}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(keys))
        monkeypatch.setattr(sys, "argv", ["launch/evaluate.py", "--config", "recipe.yaml"])
        seen.clear()
        with pytest.raises(UpToHere):
            evaluate.run()
        return SimpleNamespace(**seen)

    return start


class _Loaded:
    """A model in name: what it would be loaded from."""

    def __init__(self, where):
        self.where = where

    def to(self, device):
        return self


def _write(name, rows):
    with open(name, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _placed(value):
    if isinstance(value, list):
        return [_placed(item) for item in value]
    return value.removeprefix("@") if isinstance(value, str) else value


@pytest.mark.parametrize("key", CHANGES)
def test_another_value_is_another_comparison(start, key):
    value, what = CHANGES[key]
    beside = BESIDE.get(key, {})
    before, after = (getattr(start(**(beside | changes)), what) for changes in ({}, {key: value}))
    assert before != after
    assert getattr(start(**beside), what) == before, "the look itself must not vary"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bert_score_layer": 3}, "bert_score_layer would do nothing: name the encoder in bert_score_model too"),
        ({"judge_embeddings": "e"}, "judge_embeddings would do nothing: emotion_judge is words; set it to embeddings"),
        ({"emotion_judge": "embeddings"}, "embeddings needs a sentence model: set judge_embeddings"),
        ({"chat_system_prompt": "Be kind."}, "chat_system_prompt would do nothing: name who is told it in chat_models"),
        ({"stress": ["oracle"], "epo": None}, "stress would do nothing: name a model to test in models or epo too"),
        ({"stress": ["noise=200"]}, "stress has 'noise=200', want noise=DECIBELS .-100 to 100., blur=PERCENT"),
        ({"stress": ["blur=0"]}, "stress has 'blur=0', want noise=DECIBELS"),
        ({"stress": ["blur=nan"]}, "stress has 'blur=nan', want noise=DECIBELS"),
        ({"stress": ["blur"]}, "stress has 'blur', want noise=DECIBELS"),
        ({"stress": ["blur=2", "blur=2.0"]}, "stress has 'blur=2.0' twice; name each once"),
        ({"vad": "v", "suites": ["facts"]}, "vad would do nothing: add trajectories to suites"),
        (
            {"vad_extractor": "e", "suites": ["facts"]},
            "vad_extractor would do nothing: add trajectories or recognition",
        ),
        ({"vad_extractor": "model"}, "vad_extractor: model has no head .* with vad_weight above 0 .a whole model"),
        ({"bert_score_model": "e", "suites": ["facts"]}, "bert_score_model would do nothing: add overlap to suites"),
    ],
)
def test_a_key_without_an_effect_beside_others_is_refused(start, keys, message):
    with pytest.raises(ValueError, match=message):
        start(**keys)

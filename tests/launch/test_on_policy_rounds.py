"""Two on-policy rounds, tiny: each samples the policy before it, and an interrupted run ends as a whole one."""

import contextlib
import json
import random
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

from launch import epo, preferences, tracking
from epo.emotions import EMOTIONS
from epo.part_names import PartError
from epo.preferences.sources import _policy_writer
from launch.adapter_check import require_trained_on
from launch.folder.digests import file_digest, part_record
from launch.recipe import RecipeError

WORDS = dict(zip(EMOTIONS, ("Grr", "Yuck", "Eek", "Yay", "So", "Alas", "Wow"), strict=True))
_TRAINING = {
    "max_steps": 2, "per_device_train_batch_size": 2, "global_batch_size": 2, "logging_steps": 1, "use_cpu": True,
    "save_steps": 1, "disable_tqdm": True, "learning_rate": 1e-2, "lora_rank": 4, "lora_alpha": 8, "bf16": False,
    "gradient_checkpointing": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    @contextlib.contextmanager
    def record(*args):
        yield SimpleNamespace(callback=TrainerCallback, log_metrics=lambda values: None, log_artifact=lambda path: None)

    monkeypatch.setattr(epo, "open_run", record)
    monkeypatch.setattr(tracking, "open_run", record)


@pytest.fixture
def data(corpus, tmp_path):
    """The corpus with replies whose first word tells one of four emotions."""
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    rows = [json.loads(line) for line in (folder / "dialogues.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        emotion = ("sad", "angry", "neutral", "surprised")[i % 4]
        (name,) = next(iter(row["facts"].values()))
        row["turns"][-1] |= {"text": f"{WORDS[emotion]}, you told me about {name}.", "emotion": emotion}
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "dialogues.jsonl")


@pytest.fixture
def model(make_model, tmp_path):
    for half in make_model():
        half.save_pretrained(tmp_path / "sft")
    return str(tmp_path / "sft")


@pytest.fixture
def start(tmp_path, monkeypatch):
    def start(module, folder, **keys):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"output_dir": str(folder), "pipeline": "tiny"} | keys))
        monkeypatch.setattr(sys, "argv", ["launch/stage.py", "--config", str(path)])
        module.run()

    return start


@pytest.fixture
def policy(monkeypatch):
    """Stands for sampling: what is said hangs on the seed, which the weights decide; batch `fails_at` ends it all."""
    state = SimpleNamespace(num_batches=0, fails_at=None)

    def load(settings):
        def write(gold, emotions, seed):
            state.num_batches += 1
            if state.num_batches == state.fails_at:
                raise KeyboardInterrupt
            said = []
            for place, reply in enumerate(gold):
                emotion = random.Random(f"{seed} {place}").choice(EMOTIONS)
                said.append(f"({emotion}) {WORDS[emotion]}, you told me about {reply.facts[0]}.")
            return said

        return write

    monkeypatch.setattr(_policy_writer, "_load", load)
    return state


class _Killed(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:  # after the first checkpoint
            raise KeyboardInterrupt


def rounds(start, run, data, model):
    """Run two rounds, each of both stages, as recipes/on_policy does; finished stages return at once."""
    adapter = None
    for number in (1, 2):
        start(
            preferences, run / f"pairs_{number}", data=data, source="on_policy", policy_model=model, policy_samples=6,
            policy_batch_size=8, replies="last", splits=["train", "validation"], marginals="free",
            min_emotion_shift=-1.0, **({} if adapter is None else {"policy_adapter": adapter}),
        )  # fmt: skip
        start(
            epo, run / f"epo_{number}", data=data, pairs=str(run / f"pairs_{number}" / "pairs.jsonl"), model=model,
            **_TRAINING, **({} if adapter is None else {"adapter": adapter}),
        )  # fmt: skip
        adapter = str(run / f"epo_{number}")
    return [load_file(run / f"epo_{number}" / "adapter_model.safetensors") for number in (1, 2)]


@pytest.mark.slow
def test_two_rounds_end_alike_whether_interrupted_or_not(start, policy, data, model, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    second, third = rounds(start, whole, data, model)
    assert not all(torch.equal(second[name], third[name]) for name in second), "the second round trained"
    pairs = [(whole / f"pairs_{number}" / "pairs.jsonl").read_text() for number in (1, 2)]
    assert all(pairs) and pairs[0] != pairs[1], "the second round sampled another policy"
    in_all = policy.num_batches
    policy.num_batches, policy.fails_at = 0, in_all - 2  # while the second round samples
    with pytest.raises(KeyboardInterrupt):
        rounds(start, killed, data, model)
    assert (killed / "epo_1" / "stage.json").is_file() and not (killed / "pairs_2" / "pairs.jsonl").exists()
    policy.fails_at = None
    fit = epo.fit

    def fit_half(trainer):
        trainer.add_callback(_Killed())
        return fit(trainer)

    monkeypatch.setattr(epo, "fit", fit_half)
    with pytest.raises(KeyboardInterrupt):  # while it trains
        rounds(start, killed, data, model)
    assert (killed / "epo_2" / "checkpoint-1").is_dir() and not (killed / "epo_2" / "stage.json").is_file()
    monkeypatch.setattr(epo, "fit", fit)
    ends = rounds(start, killed, data, model)
    assert policy.num_batches == in_all + 1, "the batch that failed, and no other, was written twice"
    for number in (1, 2):
        name = f"pairs_{number}/pairs.jsonl"
        assert file_digest(killed / name) == file_digest(whole / name)
    for resumed, uninterrupted in zip(ends, (second, third), strict=True):
        for name, weight in uninterrupted.items():
            torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-6, msg=name)


def test_a_judge_that_says_little_names_no_emotions(start, policy, corpus, tmp_path):
    """The corpus as it is: nearly all replies are happy."""
    with pytest.raises(RecipeError, match="source on_policy takes the emotion of each sample from the judge, but emo"):
        start(
            preferences, tmp_path / "out", data=str(corpus / "dialogues.jsonl"), source="on_policy", policy_model="m",
            replies="last",
        )  # fmt: skip


def test_a_policy_without_a_judged_mistake_ends_the_stage_in_one_line(start, policy, data, tmp_path, monkeypatch):
    """One that says no label, as an untrained one: the line says what its samples were, and the report too."""
    monkeypatch.setattr(_policy_writer, "_load", lambda settings: lambda gold, emotions, seed: ["Wow, so."] * len(gold))
    message = "no sample of the policy has a wrong emotion 8 times; try: .*: 24 label and words in different emotions"
    with pytest.raises(RecipeError, match=message):
        start(
            preferences, tmp_path / "out", data=data, source="on_policy", policy_model="m", policy_samples=3,
            replies="last", splits=["train"],
        )  # fmt: skip
    counts = json.loads((tmp_path / "out" / "report.json").read_text())["samples"]["train"]
    assert (counts["samples"], counts["right"]) == (24, 0.0)


def test_a_counter_emotion_is_nothing_to_choose(start, data, tmp_path):
    with pytest.raises(RecipeError, match="key counter_emotion would do nothing: with source on_policy it is the emo"):
        start(preferences, tmp_path / "out", data=data, source="on_policy", policy_model="m", counter_emotion="random")


def test_an_adapter_of_another_model_is_refused(tmp_path):
    adapter, model, other = tmp_path / "epo", tmp_path / "sft", tmp_path / "sft2"
    for folder in (adapter, model, other):
        folder.mkdir()
    for place, said in ((model, "{}"), (other, '{"x": 1}')):
        (place / "config.json").write_text(said)
    with pytest.raises(PartError, match=r"adapter: .*epo holds no adapter \(adapter_model.safetensors\); run launch/e"):
        require_trained_on(str(adapter), str(model))
    (adapter / "adapter_model.safetensors").touch()
    require_trained_on(str(adapter), str(model))  # nobody says what it was trained on
    record = {"inputs": {"model": {"path": "runs/x/sft", "content": part_record(str(model))["content"]}}}
    (adapter / "identity.json").write_text(json.dumps(record))
    require_trained_on(str(adapter), str(model))
    with pytest.raises(PartError, match="was trained on the model runs/x/sft as it was then, which .*sft2 is not; na"):
        require_trained_on(str(adapter), str(other))

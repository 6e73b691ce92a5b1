"""An extractor taught by descriptions and by words, as a user runs its stage: it leaves a plain extractor behind."""

import contextlib
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml

from launch import extractor
from epo.data.dialogue import Dialogue
from epo.data.selection import by_group
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_part
from launch.recipe import RecipeError


@pytest.fixture
def run(tmp_path, monkeypatch, part, corpus):
    """Run the stage in this process; returns its folder and numbers."""

    @contextlib.contextmanager
    def record(*args):
        from transformers import TrainerCallback

        yield SimpleNamespace(callback=TrainerCallback, log_metrics=lambda numbers: None)

    monkeypatch.setattr(extractor, "open_run", record)
    common = {
        "data": str(corpus / "dialogues.jsonl"), "audio_encoder": part("whisper"), "vision_tower": part("siglip"),
        "hidden_size": 16, "num_heads": 2, "max_frames": 4, "cache_dir": str(tmp_path / "cache"), "max_steps": 2,
        "per_device_train_batch_size": 4, "global_batch_size": 4, "use_cpu": True, "disable_tqdm": True,
        "modality_dropout": 0.0, "save_steps": 2, "learning_rate": 1e-2,
    }  # fmt: skip

    def run(name, **keys):
        out = tmp_path / name
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(common | {"output_dir": str(out)} | keys))
        monkeypatch.setattr(sys, "argv", ["launch/extractor.py", "--config", str(tmp_path / f"{name}.yaml")])
        extractor.run()
        results = json.loads((out / "stage.json").read_text())
        return out, results.get("results", results)

    return run


def weights(folder):
    return load_part(str(folder), EmotionExtractor, "launch/extractor.py").state_dict()


def test_ratings_are_learnt_beside_labels_and_the_head_goes_where_nothing_trains_it(run, corpus, tmp_path):
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["turns"][-2]["vad"] = [number / 12, 0.5 - number / 12, -1]
    data = shutil.copytree(corpus, tmp_path / "rated") / "dialogues.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rated, numbers = run("rated_out", data=str(data), vad_weight=0.5)
    assert {"validation/valence_ccc", "validation/accuracy", "train/loss"} <= numbers.keys()
    assert numbers["validation/dominance_ccc"] == 0.0 and numbers["validation/num_rated"] == 2
    assert {"vad_head.weight", "vad_head.bias"} <= weights(rated).keys()
    plain, numbers = run("plain", data=str(data), extractor=str(rated))
    assert "vad_head.weight" not in weights(plain) and "validation/valence_ccc" not in numbers
    again, _ = run("again", data=str(data), extractor=str(plain), vad_weight=0.5, max_steps=1, save_steps=1)
    assert "vad_head.weight" in weights(again)


def test_validation_is_told_by_speaker_too(run, corpus, tmp_path, capsys):
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    held_out = [row for row in rows if row["split"] == "validation"]
    for name, row in zip(("ann", "bob"), held_out, strict=True):
        row["group"] = name
    data = shutil.copytree(corpus, tmp_path / "named") / "dialogues.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, numbers = run("out", data=str(data), asr_weight=0.5, modalities="audio")
    said = capsys.readouterr().out
    right, clips = (
        [numbers[f"validation/{name}/{key}"] for name in ("ann", "bob")] for key in ("accuracy", "num_clips")
    )
    assert clips == [1, 1] and numbers["validation/num_clips"] == 2
    assert numbers["validation/accuracy"] == pytest.approx(sum(right) / 2)
    assert numbers["validation/ann/word_error"] >= 0 and "validation/ann/word_error_before" not in numbers
    assert "validation/ann: emotions right " in said and said.count("character error") == 2


@pytest.mark.parametrize(
    ("groups", "names"),
    [(["a", "b", "a"], ["a", "b"]), (["a", "a"], []), (["a", None], []), ([str(i) for i in range(21)], [])],
)
def test_parts_by_group_are_few_and_whole(groups, names):
    parts = by_group([Dialogue(str(number), (), group=group) for number, group in enumerate(groups)])
    assert list(parts) == names and sum(map(len, parts.values())) == (len(groups) if names else 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vad_weight": -1.0}, "vad_weight is -1.0, want 0 or more"),
        ({"vad_weight": 1.0}, "of its 8 dialogues of split 'train', 0 user turns have both a clip and `vad`"),
        ({"vad_weight": 1.0, "per_device_train_batch_size": 1}, "raise per_device_train_batch_size"),
        (
            {"vad_weight": 1.0, "asr_weight": 1.0, "modalities": "audio"},
            "vad_weight: is not learnt beside asr_weight; learn it last, from what comes out, named as `extractor`",
        ),
    ],
)
def test_ratings_that_cannot_be_learnt_are_refused(run, keys, message):
    with pytest.raises(ValueError, match=message):
        run("refused", **keys)


@pytest.mark.slow
def test_speech_learns_words_then_the_face_its_descriptions_and_only_what_trains_changes(
    run, corpus, tmp_path, make_llm, make_tokenizer
):
    speech, numbers = run("speech", modalities="audio", asr_weight=0.3)
    assert {"validation/word_error", "validation/word_error_before", "validation/accuracy"} <= numbers.keys()
    for half in (make_llm(), make_tokenizer()):
        half.save_pretrained(tmp_path / "lm")
    told = tmp_path / "told.jsonl"
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    lines = [
        {"dialogue_id": row["id"], "turn": len(row["turns"]) - 2, "description": "The chin drops."} for row in rows
    ]
    told.write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = {"extractor": str(speech), "modalities": "video", "trainable": ["video", "vision", "temporal"]}
    face, numbers = run("face", **keys, descriptions=str(told), llm=str(tmp_path / "lm"), label_weight=0.0)
    assert numbers["validation/description_nll"] > 0
    before, after = weights(speech), weights(face)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"video_input", "vision_tower", "temporal"} <= changed and "video_head" not in changed
    assert not changed & {"audio_encoder", "audio_input", "audio_head", "fusion"}
    with pytest.raises(RecipeError, match="has another .* than this recipe's encoders and sizes make"):
        run("wide", **(keys | {"hidden_size": 32}))
    with pytest.raises(RecipeError, match=r"trainable: no parameter of the extractor has one of \['vidoe'\]"):
        run("typo", **(keys | {"trainable": ["vidoe"]}))

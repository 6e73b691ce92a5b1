"""`data label` as a user runs it: by a model in a folder, by the corpus itself, by an extractor; what is refused."""

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from launch import doctor, pipeline
from epo.data.dialogue import DataError, read_dialogues
from launch.data_verbs import labelling
from launch.planning.pipeline_recipe import Stage
from launch.planning.preflight import check_pipeline
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tracked(tmp_path, monkeypatch):
    """A store of MLflow takes a second, so all but one test note what would be logged."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    seen = {}

    @contextlib.contextmanager
    def record(stage, pipeline, experiment, out, keys):
        seen["run"] = (stage, pipeline, experiment)
        yield SimpleNamespace(log_metrics=seen.update, log_artifact=lambda path: seen.update(artifact=path.name))

    monkeypatch.setattr(labelling, "open_run", record)
    return seen


@pytest.fixture
def file(corpus, tmp_path):
    """The corpus with every other reply, and the user turn of dialogue 0, without emotion."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path in corpus.iterdir():
        if path.suffix in (".wav", ".mp4"):
            (folder / path.name).hardlink_to(path)
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):
        for turn in row["turns"]:
            if turn["speaker"] == "assistant" and place % 2 == 0 or place == 0:
                turn.pop("emotion", None)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "dialogues.jsonl"


def label(file, model, what, *more):
    out = file.parents[1] / "out"
    labelling.run([str(file), "--model", str(model), "--what", what, "--out", str(out), *more])
    return list(read_dialogues(out / "dialogues.jsonl")), json.loads((out / "labels.json").read_text())


def test_a_classifier_in_a_folder_labels_replies(file, make_tokenizer, tmp_path, capsys):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "joy", 1: "sadness"}, label2id={"joy": 0, "sadness": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "my-model")
    tokenizer.save_pretrained(tmp_path / "my-model")
    before = list(read_dialogues(file))
    after, row = label(file, tmp_path / "my-model", "replies", "--min_confidence", "0")
    for old, new in zip(before, after, strict=True):
        for turn, labelled in zip(old.turns, new.turns, strict=True):
            is_due = turn.speaker == "assistant" and turn.emotion is None and old.split != "test"
            assert labelled.labelled_by == ("my-model" if is_due else None)
            assert labelled.emotion in ("happy", "sad") if is_due else labelled.emotion == turn.emotion
            assert (labelled.clip is None) == (turn.clip is None)
    assert (
        set(row["labelled"]) == {"train", "validation"} and row["passed_over"] > 0 and row["rating"]["train"]["count"]
    )
    assert "turns that people labelled (always the commonest" in capsys.readouterr().out


def test_the_corpus_and_a_test_split_on_demand(file):
    after, row = label(file, "corpus", "words", "--splits", "test", "--min_confidence", "0")
    assert {d.split for d in after for turn in d.turns if turn.labelled_by == "corpus words"} == {"test"}
    assert set(row["labelled"]) == {"test"} and "train, folds held out" in row["rating"]


def sentences(folder, make_tokenizer):
    """A sentence model of one layer; without modules.json it is pooled by the mean."""
    from transformers import BertConfig, BertModel

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_judge_that_learnt_from_other_files_labels_replies(file, make_tokenizer, tmp_path, capsys):
    model = sentences(tmp_path / "minis", make_tokenizer)
    more = ("--judge_embeddings", model, "--judge_cache", str(tmp_path / "kept"), "--min_confidence", "0")
    after, row = label(file, "embeddings", "replies", "--judge_data", str(file), *more)
    assert {turn.labelled_by for dialogue in after for turn in dialogue.turns} == {None, "embeddings of minis"}
    told = capsys.readouterr().out
    assert "judge right on " in told and ", macro-F1 " in told and row["model"] == "embeddings"
    again, _ = label(file, "embeddings", "replies", "--judge_data", str(file), *more)
    assert again == after and list((tmp_path / "kept").glob("*.safetensors"))
    label(file, "embeddings", "replies", *more)  # without files it learns from the corpus's own training replies


def test_an_extractor_labels_clips(file, make_extractor, reader, tmp_path):
    make_extractor().save_pretrained(tmp_path / "extractor")
    reader.save(tmp_path / "extractor")
    after, row = label(file, tmp_path / "extractor", "clips", "--min_confidence", "0")
    first = next(turn for turn in after[0].turns if turn.clip is not None)
    assert first.labelled_by == "extractor" and first.emotion is not None
    assert sum(sum(found.values()) for found in row["labelled"].values()) == 1


def test_mistakes_are_refused(file, tmp_path):
    with pytest.raises(RecipeError, match="never written over"):
        labelling.run([str(file), "--model", "corpus", "--what", "replies", "--out", str(file.parent)])
    with pytest.raises(RecipeError, match="corpus is a folder; name the dialogues.jsonl in it"):
        labelling.run(["--data", str(file.parent), "--model", "corpus", "--what", "words", "--out", "out"])
    with pytest.raises(DataError, match="gone/dialogues.jsonl: no such file|gone: no such file"):
        labelling.run(["gone", "--model", "corpus", "--what", "words", "--out", "out"])
    for model, what, more, message in (
        ("corpus", "words", ["--splits", "train", "dev"], "want some of train, validation, test"),
        ("my/model", "words", ["--labels", "mine"], "mine: no such file"),
        ("embeddings", "words", ["--judge_embeddings", "m", "--judge_data", "gone.jsonl"], "gone.jsonl: no such file"),
        ("corpus", "clips", [], "reads words; for clips name the folder of an extractor stage"),
        ("corpus", "words", ["--labels", "meld"], "only a text classifier has labels"),
        ("corpus", "words", ["--min_confidence", "2"], "want a probability"),
        (
            "corpus",
            "words",
            ["--judge_embeddings", "m"],
            "judge_embeddings: belongs to model embeddings, and this recipe's is corpus",
        ),
        ("embeddings", "words", [], "embeddings needs a sentence model: set judge_embeddings"),
        ("embeddings", "clips", [], "reads words; for clips name the folder"),
        ("embeddings", "words", ["--labels", "meld"], "only a text classifier has labels"),
        (tmp_path, "clips", [], "want the folder that launch/extractor.py wrote"),
    ):
        with pytest.raises(ValueError, match=message):
            label(file, model, what, *more)


@pytest.mark.parametrize(
    "argv",
    [
        ["FILE", "--model", "m", "--what", "words", "--out", "o"],
        ["--model", "m", "--what=words", "FILE", "--out=o"],
        ["--splits", "train", "test", "--model", "m", "--out", "o", "FILE"],
        ["--data", "FILE", "--judge_data", "a", "b"],
    ],
)
def test_the_file_may_stand_by_itself(file, argv):
    flags = labelling.as_flags([str(file.parent) if word == "FILE" else word for word in argv])
    assert flags[flags.index("--data") + 1] in (str(file), str(file.parent)) and flags.count("--data") == 1
    assert [word for word in flags if word not in ("--data", str(file), str(file.parent))] == [
        word.replace("--out", "--output_dir") for word in argv if word not in ("FILE", "--data")
    ]


def test_a_finished_labelling_is_passed_over_and_a_change_is_seen(file, capsys, tracked):
    (file.parent / "card.json").write_text('{"licence": "CC0"}')
    before, _ = label(file, "corpus", "words")
    card = json.loads(Path("out/card.json").read_text())
    assert card["licence"] == "CC0" and card["machine_labels"]["corpus words"] > 0
    assert sum(card["emotions"].values()) == sum(len(d.turns) for d in before)
    assert tracked["run"][0] == "label" and tracked["labelled/train"] > 0 and tracked["artifact"] == "labels.json"
    label(file, "corpus", "words")
    assert "already done, and nothing it was made from has changed" in capsys.readouterr().out
    label(file, "corpus", "words", "--fresh")
    assert "already done" not in capsys.readouterr().out
    after, _ = label(file, "corpus", "words", "--min_confidence", "0.9")
    assert "min_confidence: 0.5 -> 0.9; writing it anew" in capsys.readouterr().out and after != before
    clip = next(turn.clip.audio for d in before for turn in d.turns if turn.clip is not None)
    recording = next(file.parent.rglob(clip.name))
    recording.unlink()
    soundfile.write(file.parent / "new.wav", np.zeros(1700), 8000)
    (file.parent / "new.wav").rename(recording)
    label(file, "corpus", "words", "--min_confidence", "0.9")
    assert "a recording named in" in capsys.readouterr().out


CHANGES = {
    "data": "@other",
    "what": "replies",
    "model": "@classifier",
    "min_confidence": "0.9",
    "splits": "test",
    "output_dir": "elsewhere",
    "pipeline": "another",
    "experiment": "another",
}
ELSEWHERE = {
    "run": "tests/launch/test_run_names.py::test_a_flag_renames_the_run_and_what_is_named_after_it",
    "fresh": "tests/launch/test_data_label.py::test_a_finished_labelling_is_passed_over_and_a_change_is_seen",
    "labels": "tests/launch/test_data_label.py::test_a_map_reads_the_labels_of_a_classifier",
    "parts_root": "tests/launch/test_data_label.py::test_a_part_comes_from_the_folder_of_parts",
    **dict.fromkeys(
        ("judge_embeddings", "judge_data", "judge_cache"),
        "tests/launch/test_data_label.py::test_a_judge_that_learnt_from_other_files_labels_replies",
    ),
}


def test_the_table_names_every_key():
    assert {f.name for f in dataclasses.fields(labelling.LabelRecipe)} == CHANGES.keys() | ELSEWHERE.keys()
    for place in ELSEWHERE.values():
        path, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_every_key_has_an_effect(key, file, tracked, make_tokenizer, tmp_path):
    lines = file.read_text().splitlines(keepends=True)
    (file.parent / "other.jsonl").write_text("".join(lines[:-1]))
    places = {"@other": str(file.parent / "other.jsonl")}
    if key == "model":
        places["@classifier"] = classifier(tmp_path / "my-model", make_tokenizer, "joy", "sadness")

    def outcome(**changes):
        keys = {"data": str(file), "model": "corpus", "what": "words", "min_confidence": "0.3", "output_dir": "out"}
        keys |= changes
        labelling.run([part for name, value in keys.items() for part in (f"--{name}", places.get(value, value))])
        return keys["output_dir"], Path(keys["output_dir"], "dialogues.jsonl").read_text(), tracked["run"]

    before = outcome()
    after = outcome(**{"output_dir": "out2", key: CHANGES[key]})
    assert before[1:] != after[1:] if key != "output_dir" else after[0] == "elsewhere"


def classifier(folder, make_tokenizer, *labels):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=dict(enumerate(labels)), label2id={label: place for place, label in enumerate(labels)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_map_reads_the_labels_of_a_classifier(file, make_tokenizer, tmp_path):
    model = classifier(tmp_path / "odd", make_tokenizer, "eins", "zwei")
    Path("map.yaml").write_text("eins: happy\nzwei: sad\n")
    with pytest.raises(DataError, match="eins"):
        label(file, model, "replies")
    after, _ = label(file, model, "replies", "--labels", "map.yaml", "--min_confidence", "0")
    assert {t.emotion for d in after for t in d.turns if t.labelled_by == "odd"} <= {"happy", "sad"}


def test_a_part_comes_from_the_folder_of_parts(file, make_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("EPO_PARTS_ROOT", "")
    classifier(tmp_path / "parts/owner/odd", make_tokenizer, "joy", "sadness")
    after, _ = label(file, "owner/odd", "replies", "--parts_root", "parts", "--min_confidence", "0")
    assert any(turn.labelled_by == "owner/odd" for d in after for turn in d.turns)


def test_the_check_before_a_pipeline_counts_and_refuses(file):
    for name in ("launch", "recipes"):
        Path(name).symlink_to(ROOT / name)
    due = {split: 0 for split in ("train", "validation")}
    for d in read_dialogues(file):
        for turn in d.turns:
            due[d.split] = due.get(d.split, 0) + (turn.emotion is None)

    def check(**keys):
        recipe = {"data": str(file), "model": "corpus", "what": "words", "output_dir": "out"} | keys
        Path("labelled.yaml").write_text(yaml.safe_dump(recipe))
        (found,) = check_pipeline([Stage("labelled", "launch/data.py", "labelled.yaml", "python", None, "label")])
        return found

    found = check()
    assert (found.training, found.validation, found.test) == (due["train"], due["validation"], None)
    assert found.errors == [] and found.unit == "turns to label"
    assert "gone.jsonl: no such file" in check(data="gone.jsonl").errors[0]
    assert "which is never written over" in check(output_dir=str(file.parent)).errors[0]
    assert "no clip_reader.json" in " ".join(check(what="clips", model=str(file.parent)).errors)
    assert "no such folder" in check(model="./gone").errors[0]
    assert "judge_data: gone.jsonl" in " ".join(
        check(model="embeddings", judge_embeddings="m", judge_data=["gone.jsonl"]).errors
    )
    bare = file.with_name("bare.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for turn in (turn for row in rows for turn in row["turns"]):
        turn.pop("emotion", None)
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "want two emotions or more" in check(data=str(bare)).errors[0]


def test_the_doctor_shows_it(file, capsys):
    for name in ("launch", "recipes"):
        Path(name).symlink_to(ROOT / name)
    recipe = {"data": str(file), "model": "corpus", "what": "words", "output_dir": "out"}
    Path("labelled.yaml").write_text(yaml.safe_dump(recipe))
    voices = {"data": str(file), "voices": ["more/dialogues.jsonl"], "output_dir": "out"}
    Path("more").mkdir()
    Path("more/dialogues.jsonl").write_text(file.read_text())
    Path("lent.yaml").write_text(yaml.safe_dump(voices))
    doctor.run(["--config", "labelled.yaml"])
    assert "launch/data.py label --config labelled.yaml" in (out := capsys.readouterr().out)
    assert "turns to label: training" in out and out.splitlines()[-1] == "can run"
    doctor.dry_run("data", ["label", str(file), "--model", "corpus", "--what", "words", "--out", "out", "--dry_run"])
    assert "can run" in capsys.readouterr().out and not Path("out").exists()
    with pytest.raises(SystemExit):
        doctor.run(["--config", "labelled.yaml", "--model", "embeddings"])
    assert "embeddings needs a sentence model" in " ".join(capsys.readouterr().out.split())
    with contextlib.suppress(SystemExit):
        doctor.run(["--config", "lent.yaml"])
    assert "launch/data.py lend-clips --config lent.yaml" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_a_stage_of_a_pipeline(file, capfd):
    for name in ("launch", "recipes"):
        Path(name).symlink_to(ROOT / name)
    recipes = {
        "words": {"corpus": "jsonl", "root": str(file.parent), "output_dir": "${run}/words"},
        "labelled": {
            "data": "${run}/words/dialogues.jsonl", "model": "corpus", "what": "words", "min_confidence": 0.2,
            "output_dir": "${run}/labelled",
        },
    }  # fmt: skip
    rows = []
    for name, recipe in recipes.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        verb = "import" if name == "words" else "label"
        rows.append({"name": name, "script": "launch/data.py", "verb": verb, "launcher": "python"})
    Path("run.yaml").write_text("run: runs/mine\n")
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": rows}))
    for _ in range(2):
        pipeline.run(["--config", "pipeline.yaml", "--parts_root", "."])
    output = capfd.readouterr().out
    assert "launch/data.py label --config labelled.yaml" in output and "[2/2] labelled: already done" in output
    doctor.run(["--config", "pipeline.yaml"])
    assert "all 2 stages can run" in capfd.readouterr().out

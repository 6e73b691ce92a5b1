"""`data describe-faces` as a user and a pipeline run it, and how its file comes to the stages that read it."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from epo.data.dialogue import DataError
from launch.data_verbs import describing_faces, showing
from launch.extractor import ExtractorRecipe
from launch.planning.pipeline_recipe import Stage
from launch.planning.preflight import check_pipeline
from launch.recipe import RecipeError
from launch.sft import SftRecipe
from launch.training import open_corpus

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tracked(tmp_path, monkeypatch):
    """Work in an empty folder, and note what would be logged."""
    monkeypatch.chdir(tmp_path)
    seen = {}

    @contextlib.contextmanager
    def record(stage, pipeline, experiment, out, keys):
        seen["run"] = stage
        yield SimpleNamespace(log_metrics=seen.update, log_artifact=lambda path: seen.update(card=path.name))

    monkeypatch.setattr(describing_faces, "open_run", record)
    return seen


@pytest.fixture
def sentences():
    Path("s.csv").write_text("clip,text\n" + "".join(f"{i}.mp4,The brows rise {i} times.\n" for i in (0, 1, 8)))
    return ["--source", "csv", "--sentences", "s.csv"]


def test_what_is_described_comes_to_a_stages_turns_and_a_second_run_does_nothing(corpus, sentences, tracked, capsys):
    data = str(corpus / "dialogues.jsonl")
    describing_faces.run(["--data", data, "--out", "out", *sentences])
    printed = capsys.readouterr().out
    assert "described: 2 train, 1 validation" in printed and "left out: 7 x clip without a sentence" in printed
    assert "left out: 1 x clip without a picture" in printed and tracked["run"] == "describe-faces"
    card = json.loads(Path("out/card.json").read_text())
    assert (
        card["described"] == {"train": 2, "validation": 1, "test": 0, "no split": 0} and tracked["described/train"] == 2
    )
    told = [t.description for d in open_corpus(data, "out/descriptions.jsonl") for t in d.turns if t.description]
    assert told == [f"The brows rise {i} times." for i in (0, 1, 8)]
    showing.run([data, "d1", "--descriptions", "out/descriptions.jsonl"])
    assert "described: The brows rise 1 times." in capsys.readouterr().out
    showing.run([data, "d1", "--descriptions", "out/descriptions.jsonl", "--html", "d1.html"])
    assert "Described: The brows rise 1 times." in Path("d1.html").read_text()
    capsys.readouterr()
    describing_faces.run(["--data", data, "--out", "out", *sentences])
    assert "described" not in capsys.readouterr().out


def test_what_cannot_be_described_is_said_in_one_line(corpus, sentences):
    data = str(corpus / "dialogues.jsonl")
    with pytest.raises(RecipeError, match="output_dir: .* is the folder of .*, which is never written over"):
        describing_faces.run(["--data", data, "--out", str(corpus), *sentences])
    with pytest.raises(RecipeError, match=r"source: no source of descriptions is called 'cvs'; the nearest is 'csv'"):
        describing_faces.run(["--data", data, "--out", "out", "--source", "cvs"])
    with pytest.raises(RecipeError, match="key sentences belongs to source csv; this recipe's source is builtin"):
        describing_faces.run(["--data", data, "--out", "out", "--sentences", "s.csv"])
    with pytest.raises(DataError, match="only of the built-in corpus is it known what was drawn"):
        describing_faces.run(["--data", data, "--out", "out"])
    Path("s.csv").write_text("clip,text\nnone.mp4,The brows rise.\n")
    with pytest.raises(DataError, match="no clip could be described by source csv; the reasons stand above"):
        describing_faces.run(["--data", data, "--out", "out2", *sentences])


def test_a_pipeline_counts_the_clips_and_knows_who_writes_the_descriptions(corpus):
    common = {"data": str(corpus / "dialogues.jsonl"), "output_dir": "told"}
    Path("told.yaml").write_text(yaml.safe_dump(common | {"source": "builtin"}))
    sft = {"input": "text", "llm": "some/model", "max_steps": 2, "prompt_parts": ["turns", "description", "words"]}
    for name, file in (("lm", "told/descriptions.jsonl"), ("gone", "gone.jsonl")):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(common | sft | {"output_dir": name, "descriptions": file}))
    told, lm, gone = check_pipeline(
        [
            Stage("told", str(ROOT / "launch/data.py"), "told.yaml", "python", None, "describe-faces"),
            Stage("lm", str(ROOT / "launch/sft.py"), "lm.yaml", "python", None),
            Stage("gone", str(ROOT / "launch/sft.py"), "gone.yaml", "python", None),
        ]
    )
    assert (told.training, told.validation, told.test, told.errors) == (6, 2, 2, []) and lm.errors == []
    assert gone.errors == ["descriptions: gone.jsonl: no such file; launch/data.py describe-faces writes one"]


def test_descriptions_that_no_prompt_tells_are_refused():
    with pytest.raises(RecipeError, match="descriptions would do nothing: .* no part `description`; add it to"):
        SftRecipe(data="d", llm="x", input="text", descriptions="told.jsonl")
    SftRecipe(data="d", llm="x", input="text", descriptions="told.jsonl", prompt_parts=["description", "words"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llm": "lm"}, "llm would do nothing: name descriptions too"),
        ({"label_weight": 0.5}, "label_weight would do nothing: name descriptions too"),
        ({"descriptions": "d.jsonl"}, "llm: name the language model that descriptions are learnt through"),
        ({"descriptions": "d.jsonl", "llm": "lm"}, "learnt from the picture alone; set modalities: video"),
        (
            {"descriptions": "d.jsonl", "llm": "lm", "modalities": "video"},
            "modality_dropout would do nothing: .* set it to 0",
        ),
        (
            {
                "descriptions": "d",
                "llm": "lm",
                "modalities": "video",
                "modality_dropout": 0.0,
                "description_weight": 0.0,
            },
            "description_weight 0.0 and label_weight 1.0: want one above 0",
        ),
    ],
)
def test_keys_of_a_described_face_that_lack_one_another_are_refused(keys, message):
    with pytest.raises(RecipeError, match=message):
        ExtractorRecipe(data="d", audio_encoder="a", vision_tower="v", **keys)

"""The check before a pipeline: what each stage would have, and every reason for which one could not run."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml

from launch import pipeline
from launch.planning.preflight import PreflightError, check_pipeline, format_briefly, format_checks, refuse
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
_TRAINING = {"global_batch_size": 4, "per_device_train_batch_size": 4, "max_steps": 2}
_MODEL = {"input": "audio_visual", "model": "runs/model"}
_ALL = {"tune": "all", "reference_cache": "runs/reference"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's scripts and recipes in it but no results, as working folder."""
    for name in ("launch", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model = tmp_path / "runs" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    return tmp_path


def stage(name, script, *args, **keys):
    """Write a recipe and return the stage that reads it."""
    if script in ("sft", "compressor", "extractor", "epo"):
        keys = _TRAINING | keys
    keys = {"output_dir": f"runs/{name}", "pipeline": "demo"} | keys
    Path(f"{name}.yaml").write_text(yaml.safe_dump(keys))
    verb = "import" if script == "data" else None
    return pipeline.Stage(name, f"launch/{script}.py", f"{name}.yaml", "python", None, verb, tuple(args))


def write_dialogues(
    path="data.jsonl", splits=("train",) * 6 + ("validation",) * 2 + ("test",) * 2, num_turns=4, **changes
):
    """Write dialogues of turns that take turns, each labelled happy or sad; `changes` go into every turn."""
    rows = []
    for i, split in enumerate(splits):
        emotion = ("happy", "sad")[i % 2]
        turns = [
            {"speaker": ("user", "assistant")[n % 2], "text": f"Words {n}.", "emotion": emotion} | changes
            for n in range(num_turns)
        ]
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
        rows.append({"id": f"d{i}", "turns": turns} | ({} if split is None else {"split": split}))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_pairs(dialogues=(0, 6, 8), path="pairs.jsonl"):
    pair = {
        "turn": 3,
        "chosen": "So good.",
        "chosen_emotion": "happy",
        "rejected": "So bad.",
        "rejected_emotion": "sad",
    }
    rows = [{"dialogue_id": f"d{i}", "source": "test"} | pair for i in dialogues]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def counts(check):
    return check.training, check.validation, check.test, check.clips, check.labels


def test_the_quickstart_is_counted_before_anything_is_written(project):
    stages = pipeline.read_pipeline(Path("recipes/quickstart/pipeline.yaml")).stages
    found = {check.stage: check for check in check_pipeline(stages)}
    assert {name: counts(check) for name, check in found.items() if name != "data"} == {
        "lm": (4000, 100, None, None, 4000),
        "extractor": (2000, 200, None, 2000, 2000),  # two clips a dialogue
        "compressor": (4000, 100, None, None, 4000),
        "sft": (1000, None, None, 1000, 1000),
        "preferences": (1000, 100, 200, 1300, 1300),
        "epo": (1000, 100, None, 1000, 1000),
        "sft_chosen": (1000, None, None, 1000, 1000),
        "evaluate": (None, None, 200, 200, 200),
    }
    assert counts(found["data"])[:4] == (4000, 100, 200, 2600)
    assert [name for name, check in found.items() if check.waits_for == "preferences"] == ["epo", "sft_chosen"]
    assert not any(check.errors or check.warnings for check in found.values())
    assert list(Path("runs").iterdir()) == [Path("runs/model")]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("pipeline.yaml")), ids=lambda path: path.parent.name)
def test_every_pipeline_of_the_project_can_run_or_lacks_its_corpus(project, path):
    stages = pipeline.read_pipeline(path.relative_to(ROOT)).stages
    errors = [error for check in check_pipeline(stages) for error in check.errors]
    name = path.parent.name
    if name in ("quickstart", "smoke", "av_emodialog"):
        assert errors == []
    elif name == "realdata":  # its corpus is written by a benchmark's script
        assert {error.split(";")[0] for error in errors} == {"data: runs/realdata/corpus/dialogues.jsonl: no such file"}
        assert len(errors) == len(stages)
    elif name == "on_policy":  # goes on from a finished quickstart
        assert all("runs/quickstart" in error for error in errors) and errors
    elif name == "laptop":  # three corpora as downloaded
        roots = {"empathetic": "empathetic_dialogues", "emodb": "emodb", "meld": "meld"}
        assert errors == [
            f"root: data/{folder}: no such folder; docs/corpora.md shows how {corpus} must lie"
            for folder, corpus in roots.items()
        ]
    else:
        corpus = name.removeprefix("av_emodialog_")
        assert errors == [f"root: data/{corpus}: no such folder; docs/corpora.md shows how {corpus} must lie"]


def test_pairs_and_dialogues_on_disk_are_counted(project):
    data, pairs = write_dialogues(), write_pairs()
    found = check_pipeline(
        [
            stage("lm", "sft", data=data, input="text", llm="gpt2"),
            stage("compressor", "compressor", data=data, llm="runs/lm", backbone="state-spaces/mamba2", replies="all"),
            stage("preferences", "preferences", data=data, splits=["train", "test"]),
            stage("epo", "epo", data=data, pairs=pairs, model="runs/model"),
            stage("chosen", "sft", data=data, pairs=pairs, **_MODEL),
            stage("evaluate", "evaluate", data=data, pairs=pairs, sft="runs/model", epo="runs/epo"),
        ]
    )
    assert [counts(check) for check in found] == [
        (6, 0, None, None, 6),
        (6, 2, None, None, 6),
        (12, None, 4, 0, 16),  # the first reply of a dialogue counts too, but has nothing to compress
        (1, 1, None, 0, 1),
        (1, None, None, 0, 0),
        (None, None, 2, 0, 2),
    ]
    assert [error for check in found for error in check.errors] == []
    warnings = [warning for check in found for warning in check.warnings]
    assert "1 to learn from are fewer than global_batch_size 4: every step repeats some" in warnings
    assert "no training reply answers a turn with a clip: only words are learnt from" in warnings
    # 1.96 x sqrt(0.25 / 2)
    assert "2 replies to score: a share near 0.5 has a 95 % interval of ± 0.69" in warnings
    assert format_briefly(found).splitlines()[0] == (
        "counted: lm 6 replies, compressor 6 replies, preferences 12 replies, epo 1 pairs, chosen 1 chosen replies, "
        "evaluate 2 test replies"
    )
    table = format_checks(found).splitlines()
    assert table[0].split() == ["stage", "training", "validation", "test", "clips", "labels", "notes"]
    assert table[2].split(maxsplit=6) == ["compressor", "6", "2", "-", "-", "6", "6 more replies have no past turn"]
    assert table[3].split() == ["preferences", "12", "-", "4", "0", "16"]


@pytest.mark.parametrize(
    ("script", "keys", "message"),
    [
        ("sft", {"max_stepz": 3}, r"s.yaml: unknown key 'max_stepz'; the nearest known key is 'max_steps'"),
        ("epo", {"lerning_rate": 1}, "the nearest known key is 'learning_rate'"),
        ("sft", {"replies": "some"}, "replies is 'some', want 'last' or 'all'|invalid choice: 'some'"),
        ("preferences", {"counter_emotion": 3}, "counter_emotion is 3, want"),
        ("sft", {"seed": 5_000_000_000}, r"s.yaml: seed is 5000000000, want a whole number from 0 to 4294967295"),
        ("evaluate", {"seed": -1}, "seed is -1, want"),
        ("evaluate", {"sft": None, "epo": None}, "name what to test: models"),
        ("evaluate", {"models": ["runs/model", "runs/gone/one"]}, "models: runs/gone/one: no such folder"),
        ("evaluate", {"answers": "gone.jsonl"}, "answers: gone.jsonl: no such file"),
        ("evaluate", {"suites": ["emotions"]}, "no suite is called 'emotions'; the nearest is 'emotion'"),
        ("evaluate", {"pairs": None, "suites": ["rewards"]}, "'rewards' cannot be given: there is no preference pair"),
        ("evaluate", {"beta": 0.1}, "unknown key 'beta'"),  # it scaled a number that was never reported
        ("sft", {"max_steps": -1}, "max_steps: set the number of optimizer steps"),
        ("sft", {"global_batch_size": 6}, "global_batch_size 6 is not a multiple .* set it to 4 or 8"),
        ("sft", {"model": None}, "llm, extractor, compressor: name all three parts"),
        ("sft", {"input": "text", "model": None}, "llm: name the language model to tune"),
        (
            "sft", {"input": "text", "model": None, "llm": "gpt2", "min_fact_recall": 0.5},
            "min_fact_recall: no validation reply of",
        ),
        ("sft", {"model": "runs/nowhere"}, "model: runs/nowhere: no such folder, and no stage before this one writes"),
        ("sft", {"model": "runs"}, r"model: runs: holds no model \(no config.json\)"),
        ("compressor", {"backbone": "parts/none.json"}, "backbone: parts/none.json: no such file"),
        ("epo", {"model": "./gone"}, "model: ./gone: no such folder"),
        ("epo", {"tune": "all"}, "reference_cache: with tune: all the reference scores the pairs before the first"),
        ("epo", {**_ALL, "quantize": "8bit"}, "quantize: with tune: all the language model's weights train, and those"),
        ("epo", {**_ALL, "conditional_weight": 0.5}, "conditional_weight is 0.5, which lets the reference read each"),
        ("evaluate", {"control": "runs/later/sft"}, "control: runs/later/sft: no such folder"),
        ("preferences", {"source": "policy"}, "source policy wants policy_model, a folder written by"),
        ("preferences", {"llm_model": "m"}, "key llm_model belongs to source llm; this recipe's source is retrieve"),
        ("sft", {"data": "gone.jsonl"}, "data: gone.jsonl: no such file"),
        ("epo", {"pairs": "gone.jsonl"}, "pairs: gone.jsonl: no such file"),
        ("sft", {"require_clip": True}, "data: data.jsonl: of its 6 dialogues of split 'train' there is none"),
        ("extractor", {}, "data.jsonl: none of its 6 dialogues of split 'train' has a user turn with both a clip and"),
        ("preferences", {"require_clip": True}, "nothing to build pairs on for splits train, validation, test,"),
    ],
)  # fmt: skip
def test_what_a_stage_cannot_run_with_is_an_error(project, script, keys, message):
    data = write_dialogues()
    base = {"data": data} | {
        "sft": _MODEL,
        "epo": {"pairs": write_pairs(), "model": "runs/model"},
        "evaluate": {"pairs": write_pairs(), "sft": "runs/model", "epo": "runs/model"},
        "compressor": {"llm": "gpt2", "backbone": "state-spaces/mamba2"},
        "extractor": {"audio_encoder": "openai/whisper-tiny", "vision_tower": "google/siglip-base-patch16-224"},
        "preferences": {},
    }[script]
    checks = check_pipeline([stage("s", script, **(base | keys))])
    with pytest.raises(PreflightError, match=f"the pipeline cannot run to its end:\n  stage s: .*{message}") as caught:
        refuse(checks)
    assert len(str(caught.value).splitlines()) == 2
    assert "cannot run: see below" in format_checks(checks)


@pytest.mark.parametrize(
    ("script", "keys", "corpus", "message"),
    [
        ("sft", _MODEL, {"num_turns": 1}, "none of its 6 dialogues of split 'train' has a reply, that is an assistant"),
        ("compressor", {"llm": "gpt2", "backbone": "gpt2"}, {"num_turns": 2}, "none of the 6 replies of split"),
        ("sft", _MODEL, {"splits": ["test"]}, "no dialogue has split 'train'; write `split` into the file"),
        ("evaluate", {}, {"splits": ["train"] * 4}, "no dialogue has split 'test'"),
        (
            "evaluate", {"suites": ["overlap", "emotion"]}, {"emotion": "sad"},
            "suites: suite 'emotion' cannot be given: the training replies are labelled with sad, and a judge of words",
        ),
        ("evaluate", {"suites": ["emotion"]}, {"emotion": None}, "labelled with no emotion"),
        ("evaluate", {"suites": ["facts"]}, {}, "suite 'facts' cannot be given: no reply to give has facts"),
        ("epo", {"model": "gpt2"}, {"splits": ["test"]}, "none of its 1 pairs belongs to a dialogue of split 'train'"),
    ],
)  # fmt: skip
def test_a_corpus_that_leaves_a_stage_nothing_is_an_error(project, script, keys, corpus, message):
    pairs = write_pairs([0]) if script in ("epo", "evaluate") else None
    files = {"sft": "runs/model", "epo": "runs/model"} if script == "evaluate" else {}
    files |= {} if pairs is None else {"pairs": pairs}
    found = check_pipeline([stage("s", script, data=write_dialogues(**corpus), **files, **keys)])
    with pytest.raises(PreflightError, match=message):
        refuse(found)


def test_an_evaluation_says_what_it_will_go_without(project):
    """Labels are missing, and there are no pairs: what is left is scored all the same."""
    data = write_dialogues(emotion=None)
    (check,) = check_pipeline([stage("s", "evaluate", data=data, sft="runs/model")])
    assert check.errors == [] and check.test == 2
    left_out = [warning.split(" is left out")[0] for warning in check.warnings if "left out" in warning]
    assert left_out == ["Suite appropriateness", "Suite emotion", "Suite facts", "Suite recognition", "Suite rewards"]


def test_a_faulty_line_is_one_error_for_all_stages_that_read_it(project):
    Path("data.jsonl").write_text("{}\n")
    lm = stage("lm", "sft", data="data.jsonl", input="text", llm="gpt2")
    sft = stage("sft", "sft", data="data.jsonl", **_MODEL)
    with pytest.raises(PreflightError, match=r"\n  stage lm, sft: data: data.jsonl:1: 'id' must be") as caught:
        refuse(check_pipeline([lm, sft]))
    assert len(str(caught.value).splitlines()) == 2


def test_a_stage_is_not_blamed_for_the_recipe_of_one_before_it(project):
    data = write_dialogues()
    stages = [
        stage("import", "data", corpus="jsonl", root=".", validashun_share=0.1),
        stage("lm", "sft", data="runs/import/dialogues.jsonl", input="text", llm="gpt2", lora_rnk=3),
        stage("compressor", "compressor", data=data, llm="runs/lm", backbone="gpt2"),
        stage("pairs", "preferences", data=data, sauce="rewrite"),
        stage("epo", "epo", data=data, pairs="runs/pairs/pairs.jsonl", model="runs/model"),
    ]
    found = {check.stage: check.errors for check in check_pipeline(stages)}
    assert {name: len(errors) for name, errors in found.items()} == {
        "import": 1, "lm": 1, "compressor": 0, "pairs": 1, "epo": 0,
    }  # fmt: skip


def test_batches_are_divided_by_the_ranks_that_accelerate_starts(project):
    one = stage("lm", "sft", data=write_dialogues(), input="text", llm="gpt2")
    eight = dataclasses.replace(one, launcher="accelerate", accelerate_config="launch/accelerate/zero2.yaml")
    assert check_pipeline([one])[0].errors == []
    assert check_pipeline([dataclasses.replace(one, launcher="accelerate")])[0].errors == []  # ranks not known
    (error,) = check_pipeline([eight])[0].errors
    assert "global_batch_size 4 is not a multiple of per_device_train_batch_size 4 x 8 ranks = 32" in error


def test_arguments_override_the_recipe(project):
    lm = stage(
        "lm",
        "sft",
        "--data",
        write_dialogues("other.jsonl"),
        "--llm=gpt2",
        "--learning_rate",
        "1e-3",
        input="text",
        data="gone.jsonl",
    )
    assert check_pipeline([lm])[0].errors == []
    wrong = dataclasses.replace(lm, args=(*lm.args, "--lerning_rate", "1"))
    assert check_pipeline([wrong])[0].errors == [
        "command line: unknown key 'lerning_rate'; the nearest known key is 'learning_rate'"
    ]


def test_pairs_that_a_stage_will_not_build_are_missed_before_it_runs(project):
    data = write_dialogues()
    pairs = stage("pairs", "preferences", data=data, splits=["test"])
    epo = stage("epo", "epo", data=data, pairs="runs/pairs/pairs.jsonl", model="runs/model")
    with pytest.raises(PreflightError, match="pairs.jsonl: stage pairs will build no pair on split 'train'"):
        refuse(check_pipeline([pairs, epo]))


def test_what_an_import_may_still_change_is_no_error(project):
    """The file of an earlier import has no test dialogue, but the import will run again."""
    write_dialogues("corpus/dialogues.jsonl", splits=[None] * 5)
    write_dialogues("runs/import/dialogues.jsonl", splits=["train"] * 5)
    data, pairs = "runs/import/dialogues.jsonl", write_pairs([0])
    stages = [
        stage("import", "data", corpus="jsonl", root="corpus"),
        stage("evaluate", "evaluate", data=data, pairs=pairs, sft="runs/model", epo="runs/model"),
    ]
    evaluate = check_pipeline(stages)[1]
    assert evaluate.errors == [] and evaluate.waits_for == "import"
    assert any("no dialogue has split 'test'" in warning for warning in evaluate.warnings)
    with pytest.raises(PreflightError, match="stage evaluate: data: .*no dialogue has split 'test'"):
        refuse(check_pipeline(stages[1:]))
    shutil.rmtree("runs/import")
    checks = check_pipeline(stages)
    assert checks[1].errors == [] and checks[1].waits_for == "import" and checks[1].test is None
    assert format_briefly(checks) == "to be counted: evaluate after import"
    assert format_checks(checks).endswith("known after import")


def test_scripts_of_the_users_own_are_passed_over(project):
    Path("mine.py").write_text("")
    mine = dataclasses.replace(stage("mine", "sft"), script="mine.py")
    checks = check_pipeline([mine])
    refuse(checks)
    assert format_briefly(checks) == "" and "not counted" in format_checks(checks)


def write_pipeline(*stages):
    rows = []
    for entry in stages:
        row = {key: value for key, value in dataclasses.asdict(entry).items() if value is not None}
        rows.append(row | {"args": list(entry.args)})
    whole = {"name": "demo", "output_dir": "runs/demo", "experiment": "tests", "stages": rows}
    Path("pipeline.yaml").write_text(yaml.safe_dump(whole))
    return ["--config", "pipeline.yaml"]


def test_check_shows_a_table_and_starts_nothing(project, capsys):
    lm = stage("lm", "sft", data=write_dialogues(), input="text", llm="gpt2")
    pipeline.run([*write_pipeline(lm), "--check"])
    assert capsys.readouterr().out.splitlines()[1].split() == ["lm", "6", "0", "-", "-", "6"]
    wrong = stage("sft", "sft", data="data.jsonl", require_clip=True, **_MODEL)
    argv = write_pipeline(lm, wrong)
    for flags in (["--check"], [], ["--only", "sft"]):
        with pytest.raises(PreflightError, match="stage sft: data: data.jsonl: of its 6 dialogues"):
            pipeline.run([*argv, *flags])
    pipeline.run([*argv, "--only", "lm", "--check"])
    assert not Path("runs/demo").exists() and not Path("runs/lm").exists()


@pytest.mark.slow
def test_an_import_is_counted_as_soon_as_it_is_done(project, capfd):
    """The import leaves no test split, as it was asked to, so the next stage is not even started."""
    write_dialogues("corpus/dialogues.jsonl", splits=[None] * 5)
    data = "runs/import/dialogues.jsonl"
    argv = write_pipeline(
        stage("import", "data", corpus="jsonl", root="corpus", test_share=0.0),
        stage("lm", "sft", data=data, input="text", llm="gpt2"),
        stage("pairs", "preferences", data=data),
        stage("evaluate", "evaluate", data=data, pairs="runs/pairs/pairs.jsonl", sft="runs/model", epo="runs/model"),
    )
    with pytest.raises(PreflightError, match="stage evaluate: data: .*no dialogue has split 'test'") as caught:
        pipeline.run(argv)
    assert len(str(caught.value).splitlines()) == 2
    assert "no test dialogues: launch/evaluate.py cannot do without; with 5 dialogues" in capfd.readouterr().out
    assert Path(data).is_file() and not Path("runs/lm").exists()


def test_the_errors_of_a_pipeline_are_a_users_mistake(project, capsys, monkeypatch):
    monkeypatch.setattr("launch.processes.ends.leave", lambda code: print("exit", code))
    argv = write_pipeline(stage("lm", "sft", data="gone.jsonl", input="text", llm="gpt2"))
    pipeline.main(lambda: pipeline.run([*argv, "--check"]))
    printed = capsys.readouterr()
    assert printed.out.endswith("exit 2\n")
    assert printed.err.startswith("error: the pipeline cannot run to its end:\n  stage lm: data: gone.jsonl: no such")
    with pytest.raises(RecipeError):
        pipeline.run([*argv, "--check", "--only", "none"])

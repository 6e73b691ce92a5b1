"""`launch/data.py` as a user runs it: import, check, show, and the mistakes one makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epo.data.dialogue import DataError, read_dialogues
from launch.data_verbs import checking, importing, showing
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
TURNS = [{"speaker": "user", "text": "Hi.", "emotion": "sad"}, {"speaker": "assistant", "text": "Oh."}]


def run_data(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / "data.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def own_corpus(tmp_path) -> Path:
    root = tmp_path / "own"
    root.mkdir()
    (root / "dialogues.jsonl").write_text(json.dumps({"id": "a", "turns": TURNS}) + "\n")
    return root


def test_import_and_check_work_from_the_command_line(tmp_path, own_corpus):
    out = tmp_path / "runs" / "corpus"
    imported = run_data("import", "--corpus", "jsonl", "--root", own_corpus, "--out", out)
    assert imported.returncode == 0, imported.stderr
    assert "turns: " in imported.stdout
    assert json.loads((out / "stage.json").read_text())["results"]["corpus"] == "jsonl"
    assert (out / "recipe.yaml").is_file() and (out / "provenance.json").is_file()
    assert [dialogue.id for dialogue in read_dialogues(out / "dialogues.jsonl")] == ["a"]
    with (out / "dialogues.jsonl").open("a") as file:
        file.write("{}\n")
    checked = run_data("check", out)
    assert checked.returncode == 1
    assert f"{out}/dialogues.jsonl:2: 'id' must be a non-empty string" in checked.stdout
    assert run_data("improt").stderr.startswith("error: unknown verb 'improt'; want one of import, ")


def test_many_notes_of_a_kind_are_shown_as_a_few(tmp_path, capsys):
    turns = [
        {"speaker": "user", "text": "Hi.", "clip": {"audio": "a.wav", "end_s": 0.5 + place / 10}} for place in range(5)
    ]
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    (tmp_path / "dialogues.jsonl").write_text(json.dumps({"id": "a", "turns": turns}) + "\n")
    checking.run([str(tmp_path), "--workers", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 3)[-1] for line in printed[:3]] == ["the sound is silent (-120 dBFS)"] * 3
    assert printed[3:] == ["note: 2 more like this; --json lists them", "1 dialogues, 5 clips, 0 faults, 5 notes"]


def test_an_import_says_which_split_it_leaves_empty(tmp_path, own_corpus, capsys):
    argv = ["--corpus", "jsonl", "--root", str(own_corpus), "--out", str(tmp_path / "corpus")]
    importing.run(argv)
    assert capsys.readouterr().out.splitlines()[-3:-1] == [
        "no validation dialogues: training stages will have no held-out numbers; with 1 dialogues raise "
        "validation_share, now 0.1, or write `split` into the corpus",
        "no test dialogues: launch/evaluate.py cannot do without; with 1 dialogues raise test_share, now 0.1, or write "
        "`split` into the corpus",
    ]
    importing.run([*argv[:-1], str(tmp_path / "test"), "--test_share", "0.9", "--validation_share", "0"])
    assert "no train dialogues: nothing can be learnt; with 1 dialogues lower" in capsys.readouterr().out


def test_check_speaks_json(own_corpus, capsys):
    checking.run([str(own_corpus), "--json", "--workers", "1"])
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "dialogues": 1,
        "turns": 2,
        "clips": 0,
        "faults": [],
        "notes": [],
    }


def test_show_prints_or_writes_a_page(own_corpus, tmp_path, capsys):
    showing.run([str(own_corpus), "a"])
    assert "1 assistant" in capsys.readouterr().out
    showing.run([str(own_corpus), "a", "--html", str(tmp_path / "page.html")])
    assert "Oh." in (tmp_path / "page.html").read_text()


def test_the_builtin_corpus_is_written_from_the_quickstart_recipe(tmp_path, capsys):
    recipe = ROOT / "recipes" / "quickstart" / "data.yaml"
    sizes = {"num_train": 3, "num_train_with_clips": 1, "num_validation": 1, "num_test": 1}
    argv = ["--config", str(recipe), "--out", str(tmp_path / "corpus"), "--workers", "1"]
    argv += [part for key, value in sizes.items() for part in (f"--{key}", str(value))]
    importing.run(argv)
    assert len(list(read_dialogues(tmp_path / "corpus" / "dialogues.jsonl"))) == 5
    before = os.stat(tmp_path / "corpus" / "dialogues.jsonl").st_mtime_ns
    capsys.readouterr()
    importing.run(argv)
    assert "already done, and nothing it was made from has changed" in capsys.readouterr().out
    assert os.stat(tmp_path / "corpus" / "dialogues.jsonl").st_mtime_ns == before


def test_an_import_is_one_mlflow_run_with_its_card(tmp_path, own_corpus):
    from mlflow import MlflowClient

    importing.run(["--corpus", "jsonl", "--root", str(own_corpus), "--out", str(tmp_path / "x"), "--pipeline", "try"])
    client = MlflowClient()
    experiment = client.get_experiment_by_name("epo")
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'data'")
    assert len(runs) == 1
    assert sum(runs[0].data.metrics[f"dialogues/{split}"] for split in ("train", "validation", "test")) == 1
    assert [file.path for file in client.list_artifacts(runs[0].info.run_id)] == ["card.json"]


MISTAKES = {
    "root: say where the corpus meld lies": ["--corpus", "meld"],
    "root: /nowhere: no such folder": ["--corpus", "meld", "--root", "/nowhere"],
    "root: the built-in corpus is generated": ["--root", "/"],
    "key num_test belongs to corpus builtin; this recipe's corpus is meld": [
        "--corpus",
        "meld",
        "--root",
        "/",
        "--num_test",
        "3",
    ],
    "unknown key 'corpsu'; the nearest known key is 'corpus'": ["--corpsu", "meld"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_refused_before_anything_is_written(message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        importing.run([*MISTAKES[message], "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_faulty_corpus_stops_or_is_skipped(tmp_path, own_corpus, capsys):
    with (own_corpus / "dialogues.jsonl").open("a") as file:
        file.write("nonsense\n")
    argv = ["--corpus", "jsonl", "--root", str(own_corpus), "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=f"{own_corpus}/dialogues.jsonl:2: not JSON"):
        importing.run(argv)
    assert not (tmp_path / "out" / "dialogues.jsonl").exists()
    importing.run([*argv, "--on-error", "skip"])
    assert "left out: 1 x line is not JSON" in capsys.readouterr().out


@pytest.mark.slow
def test_150_000_utterances_take_under_two_minutes_and_a_gibibyte(tmp_path):
    text = "An utterance of about the length that people write when they talk of something."
    content = [{"message": text, "agent": f"agent_{turn % 2}", "sentiment": "Happy"} for turn in range(20)]
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "train.json").write_text(json.dumps({f"t{index}": {"content": content} for index in range(7500)}))
    program = (
        "import re, time; from launch.data_verbs.importing import run; start = time.monotonic();"
        f"run(['--corpus', 'topical_chat', '--root', {str(root)!r}, '--out', {str(tmp_path / 'out')!r}]);"
        # Not ru_maxrss, which also counts the process that this one was forked from.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read());"
        "print(time.monotonic() - start, peak[1])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    seconds, peak_kib = map(float, done.stdout.split()[-2:])
    assert json.loads((tmp_path / "out" / "card.json").read_text())["turns"]["train"] == 150_000
    assert seconds < 120 and peak_kib < 2**20

"""Every place where a credential given to a stage could come out again: streams, files of a result, MLflow."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from transformers import TrainingArguments

from launch import tracking
from epo import redaction
from launch.folder.identity import identify
from launch.folder.provenance import begin_attempt, read_attempts
from launch.folder.stage_folder import open_folder
from launch.processes.credentials import receive_credentials
from launch.recipe import declared, read_recipe, resolved_keys

ROOT = Path(__file__).parents[2]
PASSWORD, TOKEN = "hunter2secret", "tok/en+Zq-4711"


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(redaction, "_remembered", set())
    for name in ("HF_TOKEN", "RANK", "MLFLOW_TRACKING_URI", *tracking._ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)


def _leaks(folder, *secrets):
    """Name the files below a folder that hold a secret, pickles and databases included."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    return [str(path) for path in files for secret in secrets if secret.encode() in path.read_bytes()]


def _run(code, *argv, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=ROOT,
        timeout=120,
    )


_SPEAK = """
import logging, sys, threading, warnings
early = logging.StreamHandler()  # as transformers makes its own before a stage begins
from launch.processes.credentials import guard_streams
guard_streams(); guard_streams()
url = "http://me:hunter2secret@host/x"
print("printed", url, sys.argv)
sys.stdout.writelines(["line ", url, "\\n"])
logging.getLogger("a.library").addHandler(early)
logging.getLogger("a.library").warning("logged %s", url)
try:
    raise OSError("inner " + url)
except OSError:
    logging.getLogger("a.library").exception("caught")
warnings.warn("warned " + url)
thread = threading.Thread(target=lambda: int("thread " + url)); thread.start(); thread.join()
raise RuntimeError("raised " + url + " by " + sys.argv[2])
"""


def test_nothing_that_is_printed_logged_warned_of_or_raised_shows_a_credential():
    done = _run(_SPEAK, "--hub_token", TOKEN, MY_API_KEY="value of a variable", SAID="x")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert PASSWORD not in said and TOKEN not in said
    assert "printed http://***@host/x ['-c', '--hub_token', '***']" in done.stdout
    assert "line http://***@host/x" in done.stdout
    for start in ("logged", "inner", "warned", "literal for int() with base 10: 'thread", "raised"):
        assert f"{start} http://***@host/x" in done.stderr
    assert "raised http://***@host/x by ***" in done.stderr
    assert "Traceback (most recent call last):" in done.stderr


@pytest.mark.parametrize("ending", ["RecipeError", "ValueError", "OSError"])
def test_how_a_stage_ends_shows_no_credential(ending):
    code = (
        "from launch import stage\nfrom launch.recipe import RecipeError\n"
        f"def run():\n    raise {ending}('no answer from https://me:{PASSWORD}@host/v1')\nstage.main(run)"
    )
    done = _run(code)
    assert done.returncode == (2 if ending == "RecipeError" else 1)
    assert PASSWORD not in done.stdout + done.stderr
    assert "no answer from https://***@host/v1" in done.stderr


def test_a_hub_token_is_used_but_kept_in_no_file(tmp_path, monkeypatch):
    from huggingface_hub import get_token

    monkeypatch.delenv("HF_OIDC_RESOURCE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "another")
    argv = ["--output_dir", str(tmp_path / "out"), "--hub_token", TOKEN, "--use_cpu", "true"]
    monkeypatch.setattr(sys, "argv", ["launch/x.py", *argv])
    (args,) = read_recipe([TrainingArguments])
    assert get_token() == TOKEN
    assert TOKEN.encode() not in pickle.dumps(args)  # as a Trainer does for every checkpoint
    assert resolved_keys([args])["hub_token"] == "<HUB_TOKEN>"
    (tmp_path / "out").mkdir()
    begin_attempt(tmp_path / "out", identify(*declared([TrainingArguments]), num_ranks=1, reads_clips=False))
    assert _leaks(tmp_path, TOKEN) == []
    assert read_attempts(tmp_path / "out")[0]["command"] == ["launch/x.py", *argv[:3], "***", *argv[4:]]
    assert redaction.redact(f"the Hub does not know {TOKEN}") == "the Hub does not know ***"


def test_a_recipe_with_a_password_trains_as_it_says_and_is_stored_without(tmp_path, monkeypatch):
    from launch.preferences import RECIPES

    monkeypatch.setattr(sys, "argv", ["launch/preferences.py"])
    url = f"https://me:{PASSWORD}@host/v1"
    out, data = tmp_path / "out", tmp_path / "d.jsonl"
    data.write_text("{}\n")
    argv = [
        "--data",
        str(data),
        "--output_dir",
        str(out),
        "--source",
        "llm",
        "--llm_model",
        f"https://me:{PASSWORD}@host/m",
    ]
    recipes = read_recipe(RECIPES, [*argv, "--llm_base_url", url])
    assert recipes[-1].llm_base_url == url
    with open_folder(out, recipes, [*argv, "--llm_base_url", url]) as folder:
        assert folder.resolved["llm_base_url"] == "https://***@host/v1"
        folder.finish({})
    assert _leaks(out, PASSWORD) == []
    assert redaction.redact(f"password {PASSWORD} refused") == "password *** refused"
    # Stored or not, it is the same recipe: with another password it is done.
    again = [*argv, "--llm_base_url", "https://me:another-one@host/v1"]
    with open_folder(out, read_recipe(RECIPES, again), again) as folder:
        assert folder.is_done


def test_mlflow_gets_no_credential(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SOME_API_KEY", "value of a variable")
    url = f"https://me:{PASSWORD}@host/v1"
    redaction.remember([TOKEN])
    report, folder, binary = tmp_path / "report.json", tmp_path / "folder", tmp_path / "weights.bin"
    report.write_text(json.dumps({"endpoint": url, "settings": {"api_key": "abc"}, "said": f"é {TOKEN}"}))
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "page.html").write_text(f"<a href='{url}'>value of a variable</a>")
    binary.write_bytes(bytes(range(256)))
    params = {"url": url, "hub_token": TOKEN, "nested": {"password": "abc"}, "args": ["--hub_token", "X"], "n": 3}
    params |= {"cut": "x" * 5998 + TOKEN, "said": "the value of a variable"}
    out = tmp_path / "runs" / "epo"
    with tracking.open_run("epo", url, f"tests {TOKEN}", out, params) as run:
        for path in (report, folder, binary):
            run.log_artifact(path)
    assert _leaks(tmp_path / "runs", PASSWORD, TOKEN, TOKEN[:6], "value of a variable") == []
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/runs/mlflow.db")
    done = client.get_run(run.run_id)
    assert done.data.params["url"] == done.data.tags["epo.pipeline"] == "https://***@host/v1"
    assert (done.data.params["hub_token"], done.data.params["n"]) == ("***", "3")
    assert done.data.params["args"] == "['--hub_token', '***']"
    assert done.data.params["cut"] == "x" * 5998 + "**"
    stored = tmp_path / "runs" / "mlartifacts" / run.run_id / "artifacts"
    clean = {"endpoint": "https://***@host/v1", "settings": {"api_key": "***"}, "said": "é ***"}
    assert json.loads((stored / "report.json").read_text()) == clean
    assert (stored / "folder" / "below" / "page.html").read_text() == "<a href='https://***@host/v1'>***</a>"
    assert (stored / "weights.bin").read_bytes() == bytes(range(256))
    assert PASSWORD in report.read_text()  # the file itself is the user's


def test_warnings_about_a_server_show_no_password(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@127.0.0.1:1/base?token={TOKEN}")
    with caplog.at_level(logging.DEBUG), tracking.open_run("epo", "p", "e", tmp_path / "runs/epo", {}) as run:
        run.log_metrics({"loss": 1.0})
    told = [record.getMessage() for record in caplog.records if record.name.startswith("launch")]
    assert "this run is not tracked yet" in told[0] and "127.0.0.1" in told[0]
    assert PASSWORD not in "".join(told) and TOKEN not in "".join(told)


def test_receiving_leaves_other_recipes_alone():
    class Recipe:
        max_new_tokens = 5

    receive_credentials(Recipe())
    assert redaction._remembered == set()


@pytest.mark.slow
def test_a_stage_that_is_given_secrets_leaves_none(tmp_path, corpus, part):
    """The extractor stage as a user runs it: once to its end, with checkpoints, and once into a crash."""
    keys = {"data": str(corpus / "dialogues.jsonl"), "audio_encoder": part("whisper"), "max_frames": 4}
    keys |= {"vision_tower": part("siglip"), "hidden_size": 16, "num_heads": 2, "max_steps": 2, "save_steps": 1}
    keys |= {"per_device_train_batch_size": 4, "global_batch_size": 4, "use_cpu": True, "logging_steps": 1}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(keys | {"hub_token": "token-of-the-recipe"}))
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"http://me:{PASSWORD}@127.0.0.1:1", "OMP_NUM_THREADS": "1"}
    environment |= {"OPENAI_API_KEY": "value of a variable", "PYTHONPATH": str(ROOT)}

    def stage(*argv):
        command = [sys.executable, str(ROOT / "launch" / "extractor.py"), "--config", str(recipe), *argv]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    secrets = (PASSWORD, TOKEN, "token-of-the-recipe", "value of a variable")
    done = stage("--output_dir", "runs/good", "--hub_token", TOKEN)
    assert done.returncode == 0, done.stderr
    assert "MLflow: this run is not tracked yet" in done.stderr
    crashed = stage(
        "--output_dir", "runs/bad", "--vision_tower", f"https://me:{PASSWORD}@host/{TOKEN}", "--hub_token", TOKEN
    )
    assert crashed.returncode != 0 and "https://***@host/***" in crashed.stderr
    for said in (done, crashed):
        assert not [secret for secret in secrets if secret in said.stdout + said.stderr]
    assert (tmp_path / "runs/good/checkpoint-1/manifest.json").is_file()
    assert not list(tmp_path.rglob("training_args.bin"))
    assert _leaks(tmp_path / "runs", *secrets) == []

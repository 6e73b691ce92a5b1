"""The pipeline driver, with small scripts as stages: order, failure, going on, signals, memory, what it refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from launch import pipeline
from launch.folder.folder_lock import FolderInUseError, hold
from launch.folder.stage_state import recipe_types
from launch.processes.process_tree import tree_memory_mib
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]

# Appends its name and arguments to a log, and does what its recipe says.
_STAGE = """
import json, os, shutil, sys, time, yaml
from pathlib import Path
config = sys.argv[sys.argv.index("--config") + 1]
recipe = yaml.safe_load(open(config))
out = Path(recipe["output_dir"])
is_done = (out / "stage.json").exists()
with open("log.jsonl", "a") as log:
    row = {"argv": sys.argv[1:], "parent": os.environ.get("EPO_PIPELINE_RUN_ID"), "python": shutil.which("python")}
    log.write(json.dumps(row) + "\\n")
if is_done:
    sys.exit(0)
out.mkdir(parents=True, exist_ok=True)
held = bytearray(recipe.get("mib", 0) * 2**20)
time.sleep(recipe.get("sleep_s", 0))
if recipe.get("fail_unless") and not os.path.exists(recipe["fail_unless"]):
    sys.exit(recipe["code"])
if "report" in recipe:
    Path("out/report.json").write_text(json.dumps(recipe["report"]))
(out / "stage.json").write_text("{}")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def project(tmp_path, monkeypatch, store):
    """An empty project folder with a script `stage.py`, as working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.delenv("EPO_PIPELINE_RUN_ID", raising=False)
    (tmp_path / "stage.py").write_text(_STAGE)
    return tmp_path


def _write(project, recipes, **changes):
    """Write a recipe per stage and the pipeline's; return the command line."""
    rows = []
    for name, recipe in recipes.items():
        (project / f"{name}.yaml").write_text(yaml.safe_dump({"output_dir": f"out/{name}"} | recipe))
        rows.append({"name": name, "script": "stage.py", "config": f"{name}.yaml", "launcher": "python"})
    whole = {"name": "demo", "output_dir": "out", "experiment": "tests", "stages": rows} | changes
    (project / "pipeline.yaml").write_text(yaml.safe_dump(whole))
    return ["--config", "pipeline.yaml"]


def _log(project):
    return [json.loads(line) for line in (project / "log.jsonl").read_text().splitlines()]


def test_stages_run_in_order_and_the_report_gets_time_and_memory(project, capsys, store):
    report = {"rows": [{"name": "sft+epo", "emotion_score": 0.8}], "seed": 0}
    argv = _write(project, {"first": {"mib": 150, "sleep_s": 4}, "second": {"report": report}})
    rows = yaml.safe_load(Path("pipeline.yaml").read_text())
    rows["stages"][1] |= {"verb": "import", "args": ["--max_steps", 2]}
    Path("pipeline.yaml").write_text(yaml.safe_dump(rows))
    pipeline.run(argv)
    first, second = _log(project)
    assert first["argv"] == ["--config", "first.yaml"]
    assert second["argv"] == ["import", "--config", "second.yaml", "--max_steps", "2"]
    assert Path(first["python"]).parent == Path(sys.executable).parent
    written = json.loads(Path("out/report.json").read_text())
    assert [stage["name"] for stage in written["stages"]] == ["first", "second", "(driver)"]
    assert written["seconds"] == pytest.approx(sum(stage["seconds"] for stage in written["stages"]))
    assert written["seconds"] > 1.5
    assert written["stages"][0]["peak_rss_mib"] > 150
    assert written["peak_rss_mib"] == max(stage["peak_rss_mib"] for stage in written["stages"])
    output = capsys.readouterr().out
    assert "python stage.py import --config second.yaml --max_steps 2" in output
    assert "sft+epo" in output and "out/report.html" in output
    client = MlflowClient(tracking_uri=store)
    parent = client.get_run(first["parent"])
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "demo")
    assert parent.data.metrics["seconds"] == pytest.approx(written["seconds"])


def test_a_failure_stops_with_its_code_and_the_same_command_goes_on(project, capfd, store):
    argv = _write(project, {"a": {"sleep_s": 0.3}, "b": {"fail_unless": "fixed", "code": 7}, "c": {}})
    with pytest.raises(SystemExit) as ended:
        pipeline.run(argv)
    assert ended.value.code == 7
    assert len(_log(project)) == 2
    errors = capfd.readouterr().err
    assert "[2/3] b: failed with exit code 7" in errors
    assert "give the same command again" in errors
    assert MlflowClient(tracking_uri=store).get_run(_log(project)[0]["parent"]).info.status == "FAILED"
    before = json.loads(Path("out/pipeline.json").read_text())
    assert [before[name]["is_done"] for name in "ab"] == [True, False]

    Path("fixed").touch()
    pipeline.run(argv)
    after = json.loads(Path("out/pipeline.json").read_text())
    assert after["b"]["is_done"] and after["b"]["seconds"] > before["b"]["seconds"]  # both attempts
    assert len({row["parent"] for row in _log(project)}) == 1  # one MLflow run for both


def test_a_stage_done_anew_replaces_its_record(project):
    argv = _write(project, {"a": {}})
    pipeline.run(argv)
    record = json.loads(Path("out/pipeline.json").read_text())
    record["a"]["seconds"] = 1e6
    Path("out/pipeline.json").write_text(json.dumps(record))
    Path("out/a/stage.json").unlink()
    pipeline.run(argv)
    assert json.loads(Path("out/pipeline.json").read_text())["a"]["seconds"] < 1e5


def test_a_stage_that_is_done_is_not_launched_and_a_changed_one_says_why(project, capfd):
    """With a stage of the project's own: the driver asks before it starts anything."""
    rows = []
    for name in ("one", "two"):
        (project / name).mkdir()
        (project / name / "dialogues.jsonl").write_text('{"id": "d", "turns": [{"speaker": "user", "text": "Hi."}]}\n')
        (project / f"{name}.yaml").write_text(f"corpus: jsonl\nroot: {name}\noutput_dir: out/{name}\n")
        row = {"name": name, "script": str(ROOT / "launch/data.py"), "verb": "import", "config": f"{name}.yaml"}
        rows.append(row | {"launcher": "python"})
    argv = _write(project, {}, stages=rows)
    pipeline.run(argv)
    before = json.loads(Path("out/pipeline.json").read_text())
    capfd.readouterr()

    pipeline.run(argv)
    output = capfd.readouterr().out
    assert "[1/2] one: already done\n[2/2] two: already done\n" in output and "$ " not in output
    assert json.loads(Path("out/pipeline.json").read_text()) == before  # nothing was done, so nothing is counted

    (project / "two" / "dialogues.jsonl").write_text('{"id": "d", "turns": [{"speaker": "user", "text": "Ho."}]}\n')
    pipeline.run(argv)
    output = capfd.readouterr().out
    assert "[1/2] one: already done\n" in output and "anew, because root: two has changed" in output
    assert "Ho." in Path("out/two/dialogues.jsonl").read_text()

    pipeline.run([*argv, "--only", "one", "--fresh"])
    assert "[1/2] one: done in" in capfd.readouterr().out


def test_one_driver_at_a_time(project):
    argv = _write(project, {"a": {}})
    Path("out").mkdir()
    with hold(Path("out"), ".pipeline.lock"), pytest.raises(FolderInUseError, match="out: in use by process"):
        pipeline.run(argv)


def test_from_and_only(project):
    argv = _write(project, {"a": {}, "b": {}, "c": {}})
    pipeline.run([*argv, "--from", "b"])
    pipeline.run([*argv, "--only", "a"])
    assert [row["argv"][1] for row in _log(project)] == ["b.yaml", "c.yaml", "a.yaml"]
    with pytest.raises(RecipeError, match="no stage 'd'; this pipeline has a, b, c"):
        pipeline.run([*argv, "--only", "d"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputdir": "x"}, r"pipeline.yaml: unknown key 'outputdir'; the nearest known key is 'output_dir'"),
        ({"stages": []}, "'stages' must list at least one stage"),
        ({"name": 3}, "'name' must be a word"),
        ({"stages": ["a"]}, "stage 1: want `name` and `script`"),
        ({"stages": [{"name": "a"}]}, "stage 1: missing script"),
        ({"stages": [{"name": "b", "script": "stage.py"}]}, "stage 1: b.yaml: no such file"),
        (
            {"stages": [{"name": "a", "script": "stage.py", "config": "a.yaml", "argz": []}]},
            "nearest known key is 'args'",
        ),
        ({"stages": [{"name": "a", "script": "stage.py", "config": "b.yaml"}]}, "b.yaml: no such file; run from"),
        ({"stages": [{"name": "a", "script": "none.py", "config": "a.yaml"}]}, "none.py: no such file"),
        ({"stages": [{"name": "a", "script": "stage.py", "config": "stage.py"}]}, "stage.py: "),
        (
            {"stages": [{"name": "a", "script": "stage.py", "config": "a.yaml", "launcher": "mpirun"}]},
            "launcher is 'mpirun', want accelerate or python",
        ),
        (
            {"stages": [{"name": "a", "script": "stage.py", "config": "a.yaml", "args": "--x 1"}]},
            "args must be a list",
        ),
        (
            {"stages": [{"name": "a", "script": "stage.py", "config": "a.yaml", "args": ["--x", None]}]},
            "args: item 2 is None, want a word or a number",
        ),
        ({"stages": [{"name": "a", "script": "stage.py", "config": "a.yaml"}] * 2}, "two stages are named 'a'"),
        (
            {
                "stages": [
                    {
                        "name": "a",
                        "script": "stage.py",
                        "config": "a.yaml",
                        "launcher": "python",
                        "accelerate_config": "a.yaml",
                    }
                ]
            },
            "accelerate_config has no use",
        ),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_the_first_stage(project, change, message):
    argv = _write(project, {"a": {}}, **change)
    with pytest.raises(RecipeError, match=message):
        pipeline.run(argv)
    assert not Path("log.jsonl").exists()
    assert not Path("out").exists()


def _start_driver(argv):
    command = [sys.executable, str(ROOT / "launch/pipeline.py"), *argv]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may run under nohup
    )


def _wait_until(is_so, timeout_s=60):
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


_TRAP = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
def stop(number, frame):
    if {is_polite}:
        child.kill()
        open("stopped", "w").write(str(number))
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGHUP, stop)
open("child", "w").write(str(child.pid))
while True:
    time.sleep(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_next_stage_does_not_start(project, number, store):
    argv = _write(project, {"a": {}, "b": {}})
    (project / "stage.py").write_text(_TRAP.format(is_polite=True))
    driver = _start_driver(argv)
    _wait_until(Path("child").exists)
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=30)
    assert driver.returncode == 128 + number
    assert Path("stopped").read_text() == str(int(number))
    assert f"[1/2] a: ended by {number.name}" in output
    assert "[2/2]" not in output
    run_id = Path("out/mlflow_run_id.txt").read_text().strip()
    assert MlflowClient(tracking_uri=store).get_run(run_id).info.status == "KILLED"


@pytest.mark.slow
def test_a_second_signal_kills_a_stage_that_does_not_listen_with_its_ranks(project):
    argv = _write(project, {"a": {}})
    (project / "stage.py").write_text(_TRAP.format(is_polite=False))
    driver = _start_driver(argv)
    _wait_until(lambda: Path("child").exists() and Path("child").read_text() != "")
    driver.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert driver.poll() is None
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=30)
    assert driver.returncode == 143
    rank = int(Path("child").read_text())
    _wait_until(lambda: not _is_running(rank), 10)


def _is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


_A_TREE = """
import json, os, subprocess, sys, time
from launch.processes.process_tree import PeakMemory, tree_memory_mib
holding = "held = bytearray(200 * 2**20); print('ready', flush=True); input()"
with PeakMemory(interval_s=0.05).sampling() as memory:
    child = subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    with_child = tree_memory_mib(os.getpid())
    last = time.monotonic() + 60
    while memory.peak_mib < with_child - 5 and time.monotonic() < last:
        time.sleep(0.05)
    child.communicate(b"\\n")
print(json.dumps([with_child, tree_memory_mib(os.getpid()), memory.peak_mib]))
"""


def test_memory_of_the_tree_counts_children():
    """In a small process of its own: the PSS of what the tests have loaded moves with whoever else has it loaded."""
    done = subprocess.run([sys.executable, "-c", _A_TREE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with_child, without, peak = json.loads(done.stdout)
    assert 195 < with_child - without < 260
    assert with_child - 5 <= peak < with_child + 60
    assert tree_memory_mib(2**22 + 1) == 0.0  # no such process


def test_commands_are_printed_as_they_are_typed(monkeypatch):
    stage = pipeline.Stage("epo", "launch/epo.py", "epo.yaml", "accelerate", "zero2.yaml", None, ("--beta", "0.2"))
    assert " ".join(stage.command()) == (
        "accelerate launch --config_file zero2.yaml launch/epo.py --config epo.yaml --beta 0.2"
    )
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert pipeline._typed("python") == "python"
    monkeypatch.setenv("PATH", "/usr/bin")
    assert Path(pipeline._typed("python")).resolve() == Path(sys.executable).resolve()


@pytest.mark.slow
def test_accelerate_starts_two_ranks_of_a_stage(project):
    argv = _write(project, {"a": {}})
    two = {"distributed_type": "DEEPSPEED", "use_cpu": True, "num_processes": 2, "num_machines": 1, "machine_rank": 0}
    two["deepspeed_config"] = {"zero_stage": 2}
    Path("two.yaml").write_text(yaml.safe_dump(two))
    recipe = yaml.safe_load(Path("pipeline.yaml").read_text())
    recipe["stages"][0] |= {"launcher": "accelerate", "accelerate_config": "two.yaml"}
    Path("pipeline.yaml").write_text(yaml.safe_dump(recipe))
    Path("stage.py").write_text("import os\nopen('rank' + os.environ['RANK'], 'w').write(os.environ['WORLD_SIZE'])\n")
    pipeline.run(argv)
    assert [Path(f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def test_every_pipeline_recipe_of_the_project_is_valid(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = sorted(Path("recipes").rglob("pipeline.yaml"))
    assert Path("recipes/quickstart/pipeline.yaml") in found
    for path in found:
        assert len(pipeline.read_pipeline(path).stages) > 0


def test_a_seed_of_the_command_line_reaches_every_stage_that_has_one():
    from launch.recipe import declared

    stages = pipeline.read_pipeline(ROOT / "recipes" / "quickstart" / "pipeline.yaml", seed=7).stages
    assert len(stages) == 9 and all(stage.args[-2:] == ("--seed", "7") for stage in stages)
    for stage in stages:
        assert declared(recipe_types(stage.script, stage.verb), stage.options)[0]["seed"] == 7, stage.name
    laptop = pipeline.read_pipeline(ROOT / "recipes" / "laptop" / "pipeline.yaml", seed=7).stages
    assert [stage.name for stage in laptop if "--seed" not in stage.args] == ["data"], "labelling draws nothing"

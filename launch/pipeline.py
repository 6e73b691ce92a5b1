"""Run the stages of a pipeline recipe one after another, each by the command a user would type."""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launch  # noqa: F401
from launch.folder.folder_lock import hold
from launch.folder.stage_state import stage_state
from launch.keys.parts_folder import receive_parts_root
from launch.keys.recipe_file import RecipeError
from launch.planning.pipeline_recipe import Pipeline, Stage, read_pipeline
from launch.planning.preflight import check_pipeline, format_briefly, format_checks, refuse
from launch.processes.ends import MISTAKE
from launch.processes.orphan import DRIVER_PID
from launch.processes.process_tree import MEMORY_MEASURE, PeakMemory, kill_tree
from launch.stage import DRY_RUN, main
from launch.tracked_run import TrackedRun
from launch.tracking import PIPELINE_RUN_ID, open_pipeline, tracking_uri

_RECORD = "pipeline.json"
_DRIVER = "(driver)"  # what is neither in one stage nor in another: MLflow's tables, mostly


@dataclass
class StageRecord:
    """What a stage cost so far, over every attempt since it was last done."""

    seconds: float = 0.0
    peak_rss_mib: float = 0.0
    is_done: bool = False


def run(argv: Sequence[str] | None = None) -> None:
    """Run a pipeline; exit with the code of the first stage that fails."""
    arguments = _parse(argv)
    receive_parts_root(arguments)
    pipeline = read_pipeline(Path(arguments.config), arguments.run, arguments.parts_root, arguments.seed)
    chosen = _choose(pipeline, arguments.first, arguments.only)
    start_s = time.monotonic()
    checks = check_pipeline(chosen)
    is_fine = not any(check.errors for check in checks)
    print(format_briefly(checks) if is_fine and not arguments.check else format_checks(checks), flush=True)
    refuse(checks)
    if arguments.check:
        return
    output_dir = Path(pipeline.output_dir)
    resolved = {"config": arguments.config, "stages": ", ".join(stage.name for stage in pipeline.stages)}
    output_dir.mkdir(parents=True, exist_ok=True)
    with (
        hold(output_dir, ".pipeline.lock"),
        _Relay().installed() as relay,
        open_pipeline(pipeline.name, pipeline.experiment, output_dir, resolved) as tracked,
    ):
        records = _read_records(output_dir)
        driver = _Driver(pipeline, records, relay, tracked, arguments.fresh)
        in_stages_s = 0.0
        for number, stage in enumerate(chosen):
            in_stages_s += driver.run_stage(stage)
            if any(check.waits_for == stage.name for check in checks[number + 1 :]):
                checks[number + 1 :] = check_pipeline(chosen[number + 1 :])
                print(format_briefly(checks[number + 1 :]), flush=True)
                refuse(checks[number + 1 :])
        if in_stages_s > 0:
            _record(records, _DRIVER, time.monotonic() - start_s - in_stages_s, 0.0, is_done=True)
            _write_records(output_dir, records)
        _finish(pipeline, records, tracked)


@dataclass(frozen=True)
class _Driver:
    """Runs the stages of one pipeline and keeps account of what they cost."""

    pipeline: Pipeline
    records: dict[str, StageRecord]
    relay: "_Relay"
    tracked: TrackedRun
    fresh: bool

    def run_stage(self, stage: Stage) -> float:
        """Run one stage unless it is done; leave with its exit code where it fails.

        Returns:
            Its seconds, 0 for a stage that was done before.
        """
        title = f"[{self.pipeline.stages.index(stage) + 1}/{len(self.pipeline.stages)}] {stage.name}"
        state = stage_state(
            stage.script, stage.options, stage.verb
        )  # before the launcher: a stage that is done costs nothing
        if state.kind == "done" and not self.fresh:
            print(f"{title}: already done", flush=True)
            return 0.0
        if self.fresh or state.kind == "changed":
            stage = dataclasses.replace(stage, args=(*stage.args, "--fresh"))
        shown = stage.command(_typed("python"), (_typed("accelerate"), "launch"))
        print(f"\n{title}\n" + "".join(f"anew, because {reason}\n" for reason in state.reasons), end="")
        print(f"$ {shlex.join(shown)}", flush=True)
        start_s = time.monotonic()
        with PeakMemory().sampling() as memory:
            code = self.relay.run(_real_command(stage), _environment(self.tracked.run_id))
        seconds = time.monotonic() - start_s
        _record(self.records, stage.name, seconds, memory.peak_mib, is_done=code == 0)
        _write_records(Path(self.pipeline.output_dir), self.records)
        figures = {f"seconds/{stage.name}": seconds, f"peak_memory_mib/{stage.name}": memory.peak_mib}
        self.tracked.log_metrics(figures)
        if code != 0:
            _stop(title, code, seconds)
        print(f"{title}: done in {seconds:.1f} s, peak memory {memory.peak_mib:,.0f} MiB", flush=True)
        return seconds


def _stop(title: str, code: int, seconds: float) -> None:
    """Say what failed and how to go on, and exit with the stage's code."""
    if code == MISTAKE:
        print(f"{title}: stopped; mend what the line above says and give the same command again", file=sys.stderr)
        raise SystemExit(code)
    again = shlex.join([_typed("python"), *sys.orig_argv[1:]])
    print(
        f"\n{title}: {_how_it_ended(code)} after {seconds:.1f} s; the messages above say why.\n"
        f"To go on, give the same command again: stages that are done return at once.\n$ {again}",
        file=sys.stderr,
        flush=True,
    )
    raise SystemExit(code if code > 0 else 128 - code)


def _how_it_ended(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"


def _finish(pipeline: Pipeline, records: Mapping[str, StageRecord], tracked: TrackedRun) -> None:
    """Put time and memory into the report, and show the table and where to look next."""
    names = [*(stage.name for stage in pipeline.stages), _DRIVER]
    known = [(name, records[name]) for name in names if name in records]
    seconds = sum(record.seconds for _, record in known)
    peak_mib = max((record.peak_rss_mib for _, record in known), default=0.0)
    tracked.log_metrics({"seconds": seconds, "peak_memory_mib": peak_mib})
    print(f"\n{pipeline.name}: {seconds / 60:.1f} min in all, peak memory {peak_mib / 1024:.2f} GiB")
    output_dir = Path(pipeline.output_dir)
    if not (output_dir / "report.json").is_file():
        return
    from epo.evaluation.report import format_table, merge_report, report_files

    stages = [{"name": name} | dataclasses.asdict(record) for name, record in known]
    extra = {"seconds": seconds, "peak_rss_mib": peak_mib, "stages": stages, "memory_measure": MEMORY_MEASURE}
    report = merge_report(output_dir, extra)
    for path in report_files(output_dir):
        tracked.log_artifact(path)
    print(f"\n{format_table(report)}\n\nCharts, examples and how each number was made: {output_dir / 'report.html'}")
    store = f"mlflow ui --backend-store-uri {tracking_uri(output_dir)}"
    print(f"Every run, loss and setting: {'make ui' if Path('Makefile').is_file() else store}", flush=True)


class _Relay:
    """Runs one command at a time and passes signals on to it: the first as it came, a second one as SIGKILL.

    SIGHUP is the end of the terminal that the driver was started from; under `nohup` it stays ignored.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._received: int | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator["_Relay"]:
        """Take over SIGINT, SIGTERM and SIGHUP while the block runs."""
        wanted = [signal.SIGINT, signal.SIGTERM]
        wanted += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
        before = {number: signal.signal(number, self._pass_on) for number in wanted}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a command to its end and return its exit code, negative for a signal, as `subprocess` does.

        Once a signal came, the code says so, whatever the command made of it.
        """
        if self._received is not None:
            return -self._received
        # A session of its own: Ctrl-C reaches the driver alone, which passes it on once.
        self._process = subprocess.Popen(command, env=environment, start_new_session=True)
        if self._received is not None:  # it came while the command started
            self._signal_group(self._received)
        code = self._process.wait()
        self._process = None
        return code if self._received is None else -self._received

    def _pass_on(self, number: int, frame: Any) -> None:
        is_first, self._received = self._received is None, number
        if is_first:
            self._signal_group(number)  # between two stages there is none: the next one will not start
        elif self._process is not None:
            kill_tree(self._process.pid)
        else:
            raise SystemExit(128 + number)

    def _signal_group(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch/pipeline.py", description=__doc__)
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="a recipe such as recipes/quickstart/pipeline.yaml"
    )
    parser.add_argument("--run", metavar="FOLDER", help="folder of the run, in place of what run.yaml says")
    parser.add_argument(
        "--parts_root",
        metavar="FOLDER",
        help="folder of models that stands in for the hub, in every stage that names some",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of every stage that has one; give each seed its own --run"
    )
    parser.add_argument("--check", action="store_true", help="show what each stage would have, and start none")
    parser.add_argument(DRY_RUN, action="store_true", help="show what each stage would find and need, and start none")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", metavar="STAGE", help="leave out the stages before this one")
    which.add_argument("--only", metavar="STAGE", help="run this stage alone")
    parser.add_argument(
        "--fresh", action="store_true", help="run stages anew even where they are done; what was there is kept aside"
    )
    return parser.parse_args(argv)


def _choose(pipeline: Pipeline, first: str | None, only: str | None) -> tuple[Stage, ...]:
    names = [stage.name for stage in pipeline.stages]
    for name in (first, only):
        if name is not None and name not in names:
            raise RecipeError(f"command line: no stage {name!r}; this pipeline has {', '.join(names)}")
    if only is not None:
        return (pipeline.stages[names.index(only)],)
    return pipeline.stages if first is None else pipeline.stages[names.index(first) :]


def _typed(tool: str) -> str:
    """Return `tool` where the shell would find the one beside this interpreter, else its path from here."""
    beside = Path(sys.executable).with_name(tool)
    found = shutil.which(tool)
    is_on_path = found is not None and os.path.abspath(found) == os.path.abspath(beside)
    return tool if is_on_path else os.path.relpath(beside)


def _real_command(stage: Stage) -> list[str]:
    # The module behind `accelerate launch` alone: the command of that name imports all its other verbs too.
    return stage.command(sys.executable, (sys.executable, "-m", "accelerate.commands.launch"))


def _environment(parent_run_id: str) -> dict[str, str]:
    """Return the environment of a stage: tools of the virtual environment first, and its MLflow parent."""
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}  # ranks share the cores
    environment[DRIVER_PID] = str(os.getpid())
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if parent_run_id != "":
        environment[PIPELINE_RUN_ID] = parent_run_id
    return environment


def _record(records: dict[str, StageRecord], name: str, seconds: float, peak_mib: float, is_done: bool) -> None:
    """Add an attempt: one after a failed attempt continues it, one after a finished attempt is a fresh start."""
    old = records.get(name, StageRecord())
    if old.is_done:
        old = StageRecord()
    records[name] = StageRecord(round(old.seconds + seconds, 2), round(max(old.peak_rss_mib, peak_mib), 1), is_done)


def _read_records(output_dir: Path) -> dict[str, StageRecord]:
    path = output_dir / _RECORD
    if not path.is_file():
        return {}
    return {name: StageRecord(**row) for name, row in json.loads(path.read_text(encoding="utf-8")).items()}


def _write_records(output_dir: Path, records: Mapping[str, StageRecord]) -> None:
    rows = {name: dataclasses.asdict(record) for name, record in records.items()}
    output_dir.mkdir(parents=True, exist_ok=True)
    partial = output_dir / (_RECORD + ".partial")
    partial.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    partial.replace(output_dir / _RECORD)


__all__ = ["Pipeline", "Stage", "read_pipeline", "run"]

if __name__ == "__main__":
    main(run)

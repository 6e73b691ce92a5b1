"""What a stage, or each of a pipeline, will find and need on this machine: `launch/doctor.py --config FILE`.

Weights are not read and nothing is written. A line for each problem says what to do; exit code 2 where the run cannot
work, 0 where it can. `--dry_run` behind the command of any stage shows the same for exactly that command.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import stage
from launch.keys.recipe_file import RecipeError, read_mapping
from launch.keys.shipped import find_shipped
from launch.processes.ends import MISTAKE

_HELP = """python launch/doctor.py --config RECIPE [--accelerate_config FILE] [--devices N] [--KEY VALUE ...]

Shows on one screen which parts a stage finds, what trains, how much memory a device needs, how much work there is, and
what is missing. RECIPE is a stage's or a pipeline.yaml: then every stage is told in turn. Unless said, a stage is taken
to start as the pipeline.yaml beside its recipe says.

  --accelerate_config FILE  such as launch/accelerate/zero2.yaml
  --num_processes N         in place of what that file says; --devices N is the same
  --parts_root FOLDER       where parts named as on the hub are looked up first
  --run FOLDER, --KEY VALUE as the stage itself takes them"""


def run(argv: Sequence[str] | None = None) -> None:
    """Show the screen of what the command line names; exit with 2 where it cannot run."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or {"-h", "--help"} & set(arguments):
        print(_HELP)
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, kind in (("--config", str), ("--accelerate_config", str), ("--num_processes", int), ("--devices", int)):
        parser.add_argument(name, type=kind)
    known, rest = parser.parse_known_args(arguments)
    if known.config is None:
        raise RecipeError("--config: name a recipe, such as recipes/quickstart/sft.yaml, or a pipeline.yaml")
    number = known.num_processes if known.devices is None else known.devices
    _show(known.config, rest, None, known.accelerate_config, number)


def dry_run(script: str, argv: Sequence[str]) -> None:
    """Show what a stage's own command line would find; exit with 2 where it cannot run.

    Args:
        script: name of the stage, such as "sft".
        argv: its command line, with or without `--dry_run`.
    """
    if stage.rank() != 0:
        return
    from launch.data_verbs.derived_corpus import with_output_dir
    from launch.data_verbs.labelling import as_flags
    from launch.folder.stage_state import DATA_STAGES

    words = [part for word in argv if word != "--dry_run" for part in _split(word)]
    verb, config = None, None
    if script == "data":
        verb = words.pop(0) if words[:1] and words[0] in DATA_STAGES else "import"
        words = as_flags(words) if verb == "label" else with_output_dir(words)
    if "--config" in words[:-1]:
        place = words.index("--config")
        config = words[place + 1]
        del words[place : place + 2]
    _show(config, words, script, None, None, verb)


def _show(
    config: str | None,
    argv: Sequence[str],
    script: str | None,
    settings: str | None,
    num_processes: int | None,
    verb: str | None = None,
) -> None:
    from launch.checkup.checkup import examine
    from launch.checkup.planned_stages import plan_pipeline, plan_stage, read_start, start_of_this_job
    from launch.checkup.screen import format_pipeline, format_stage

    start = start_of_this_job()
    if settings is not None or num_processes is not None:
        start = read_start(settings, num_processes)
    argv, root = _take(argv, "--parts_root")
    if script == "pipeline" or (config is not None and "stages" in read_mapping(Path(find_shipped(config)))):
        rest, folder = _take(argv, "--run")
        if rest:
            raise RecipeError(f"{rest[0]}: a pipeline takes --run alone; a key belongs to a stage's recipe")
        if config is None:
            raise RecipeError("--config: want the path of a pipeline's recipe after it")
        found = [examine(planned, root) for planned in plan_pipeline(config, folder, start)]
        print(format_pipeline(found))
    else:
        found = [examine(plan_stage("" if config is None else config, argv, script, start, verb), root)]
        print(format_stage(found[0]))
    if any(one.problems for one in found):
        sys.stdout.flush()
        raise SystemExit(MISTAKE)


def _take(argv: Sequence[str], flag: str) -> tuple[list[str], str | None]:
    """Return a command line without a flag, and the flag's value."""
    words = list(argv)
    if flag not in words[:-1]:
        return words, None
    place = words.index(flag)
    return [*words[:place], *words[place + 2 :]], words[place + 1]


def _split(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


__all__ = ["dry_run", "run"]

if __name__ == "__main__":
    stage.main(run)

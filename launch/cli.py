"""The command `epo`: what the scripts of launch/ do, from any folder; each is loaded when it is asked for."""

import importlib
import os
import sys
from collections.abc import Sequence

_HELP = """usage: epo COMMAND ...

Trains empathetic audio-visual dialogue: EPO and MambaCompressor (arXiv 2412.17572).

  epo quickstart              the whole method on a corpus that it writes itself, without a download
  epo smoke                   the same for a few steps a stage, to see that all of it works

With a corpus of your own or a published one:
  epo new mine --from meld    write recipes/mine, a folder of recipes to change; also --from
                              quickstart, laptop, realdata, iemocap, multidialog, av_emodialog,
                              av_emodialog_multidialog
  epo data import --corpus meld --root MELD --out runs/mine/corpus
  epo data check runs/mine/corpus/dialogues.jsonl
                              also: describe, show, label, label-maps, describe-faces, lend-clips,
                              import-pairs; epo data --help
  epo pipeline --config recipes/mine/pipeline.yaml [--check] [--only STAGE] [--run FOLDER]
                              every stage in order; the same command goes on where it stopped
  epo submit STAGE --config recipes/mine/STAGE.yaml [--nodes N] [--dry_run]
                              the same on Slurm; also: epo submit pipeline. epo sync FOLDER sends
                              to MLflow what it has not taken yet
  epo doctor --config recipes/mine/sft.yaml [--accelerate_config FILE]
                              what a stage, or a pipeline.yaml, finds and needs, and what is missing

Talk to what came out, a recording a turn:
  epo chat [--model FOLDER] [--adapter FOLDER]    unless said, the finished quickstart
  epo demo [--model FOLDER] [--adapter FOLDER]    the same on a page, with camera and microphone
  epo rate VERB ...           blind sheets for people and judges, what they say; role-played users

One stage, where a pipeline is not what you want:
  epo run STAGE --config recipes/mine/STAGE.yaml [--accelerate FILE] [--KEY VALUE ...]
                              STAGE: extractor, compressor, sft, preferences, epo, evaluate;
                              FILE: launch/accelerate/zero2.yaml or another

epo COMMAND --help says more; epo run STAGE --help shows the keys of its recipe, --help-all those of
transformers too. The project's own recipes and settings are found from any folder by their names,
such as recipes/quickstart/epo.yaml. epo --version"""

_RUN_HELP = """usage: epo run STAGE --config RECIPE [--accelerate FILE] [--KEY VALUE ...]

Starts `accelerate launch [--config_file FILE] launch/STAGE.py --config RECIPE ...`; preferences needs no accelerate.
STAGE: {stages}
FILE: launch/accelerate/cpu.yaml, zero2-cpu.yaml, zero2.yaml, zero3.yaml, fsdp2.yaml or your own; without it
accelerate's default.
epo run STAGE --help shows the keys of its recipe."""

_BY_ACCELERATE = ("extractor", "compressor", "sft", "epo", "evaluate")
_STAGES = (*_BY_ACCELERATE, "preferences")
# Commands that are a script and no more: its module, and what takes the rest of the command line.
_SCRIPTS = {
    "new": ("launch.keys.new_recipes", "run"),
    "data": ("launch.data", "main"),
    "pipeline": ("launch.pipeline", "run"),
    "submit": ("launch.submit", "run"),
    "doctor": ("launch.doctor", "run"),
    "chat": ("launch.chat", "run"),
    "demo": ("launch.demo", "run"),
    "rate": ("launch.rate", "main"),
}
_COMMANDS = ("quickstart", "smoke", "run", "sync", *_SCRIPTS)


def main() -> None:
    """Start what the command line names; exit as the script behind it does."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(_HELP)
    elif argv[0] == "--version":
        from importlib.metadata import version

        print(f"epo-trainer {version('epo-trainer')}")
    else:
        from launch import stage

        stage.main(lambda: _dispatch(argv[0], argv[1:]), is_stage=False)


def _dispatch(command: str, rest: Sequence[str]) -> None:
    from launch import stage

    if command in ("quickstart", "smoke", "data", "pipeline") and stage.DRY_RUN in rest:
        from launch import doctor

        is_named = command in ("data", "pipeline")
        config = [] if is_named else ["--config", f"recipes/{command}/pipeline.yaml"]
        doctor.dry_run(command if is_named else "pipeline", [*config, *rest])
    elif command in ("quickstart", "smoke"):
        from launch import pipeline

        pipeline.run(["--config", f"recipes/{command}/pipeline.yaml", *rest])
    elif command == "sync":
        from launch import tracking

        tracking.run(["sync", *rest])
    elif command == "run":
        _run_stage(rest)
    elif command in _SCRIPTS:
        module, name = _SCRIPTS[command]
        getattr(importlib.import_module(module), name)(rest)
    else:
        _refuse("command", command, _COMMANDS)


def _run_stage(argv: Sequence[str]) -> None:
    """Become the process that a stage is started by."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_RUN_HELP.format(stages=", ".join(_STAGES)))
        return
    name, *rest = argv
    if name not in _STAGES:
        _refuse("stage", name, _STAGES)
    command = stage_command(name, rest)
    sys.stdout.flush()
    os.execv(command[0], command)


def stage_command(name: str, argv: Sequence[str]) -> list[str]:
    """Return the command that starts a stage, by accelerate unless it needs none or shows its help.

    Raises:
        RecipeError: `--accelerate` names no file, or has no use.
    """
    from launch.keys.recipe_file import RecipeError
    from launch.keys.shipped import ROOT, find_shipped

    start, rest = [sys.executable], list(argv)
    settings: list[str] = []
    if "--accelerate" in rest:
        place = rest.index("--accelerate")
        if rest[place + 1 :] == []:
            raise RecipeError("--accelerate: want a file after it, such as launch/accelerate/zero2.yaml")
        settings = ["--config_file", find_shipped(rest[place + 1])]
        del rest[place : place + 2]
        if not os.path.isfile(settings[1]):
            raise RecipeError(f"--accelerate {settings[1]}: no such file; the project's are launch/accelerate/*.yaml")
        if name not in _BY_ACCELERATE:
            raise RecipeError(f"--accelerate has no use with {name}, which is one process; leave it out")
    if name in _BY_ACCELERATE and not {"-h", "--help", "--help-all"} & set(rest):
        start += ["-m", "accelerate.commands.launch", *settings]
    return [*start, str(ROOT / "launch" / f"{name}.py"), *rest]


def _refuse(kind: str, name: str, known: Sequence[str]) -> None:
    import difflib

    from launch.keys.recipe_file import RecipeError

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise RecipeError(f"no {kind} {name!r}; the nearest is {near!r}, and epo --help shows all")


if __name__ == "__main__":
    main()

"""Recipes: one flat YAML file a stage, read strictly into typed dataclasses; flags on the command line win."""

import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from trl import TrlParser

# What every stage needs of transformers' TrainingArguments, where its own default would not do.
_TRAINING_DEFAULTS = {
    "report_to": "none",  # launch/tracking.py logs; a second reporter would double every run
    "remove_unused_columns": False,  # collators look rows up by index
    "logging_steps": 10,
    "save_strategy": "steps",
    "save_total_limit": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "seed": 0,
}


class RecipeError(ValueError):
    """A recipe that cannot be used as written; the message names the file, the key and the remedy."""


def read_recipe(
    types: Sequence[Any], argv: Sequence[str] | None = None, others: Collection[str] = ()
) -> tuple[Any, ...]:
    """Read `--config FILE [--key value ...]` into one instance of each dataclass.

    Args:
        types: dataclasses whose fields are the known keys, together.
        argv: the arguments without the program's name; None takes them from the command line.
        others: further keys that may be given; they are passed over.

    Raises:
        RecipeError: the file is missing or no mapping, a key is unknown (the nearest known one is named), or a
            value does not convert.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    fields = {field.name for type_ in types for field in dataclasses.fields(type_) if field.init}
    known = sorted(fields.union(others))
    if "--config" in argv:
        _check_file(argv, known)
    _check_flags(argv, known)
    parser = _Parser(list(types), description=(types[0].__doc__ or "").strip())
    defaults = _TRAINING_DEFAULTS | (_cpu_settings() if "use_cpu" in fields else {})
    parser.set_defaults_with_config(**{key: value for key, value in defaults.items() if key in fields})
    try:
        recipes = tuple(parser.parse_args_and_config(argv, return_remaining_strings=len(others) > 0))[: len(types)]
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{_config_name(argv)}: {error}") from error
    for recipe in recipes:
        _check_values(recipe, _config_name(argv))
        _check_seed(recipe, _config_name(argv))
    return recipes


def require_max_steps(max_steps: int) -> None:
    """Refuse a training run without its length.

    Raises:
        RecipeError: `max_steps` is not set.
    """
    if max_steps <= 0:
        raise RecipeError("max_steps: set the number of optimizer steps; the schedule and the curriculum depend on it")


def accumulation_steps(global_batch_size: int, micro_batch_size: int, num_ranks: int) -> int:
    """Return the accumulation steps that make `micro x accumulation x ranks` the global batch, exactly.

    Raises:
        RecipeError: no whole number does; the message names the nearest global batches that work.
    """
    per_step = micro_batch_size * num_ranks
    if global_batch_size < per_step or global_batch_size % per_step != 0:
        below = global_batch_size // per_step * per_step
        options = [str(size) for size in (below, below + per_step) if size > 0]
        raise RecipeError(
            f"global_batch_size {global_batch_size} is not a multiple of per_device_train_batch_size "
            f"{micro_batch_size} x {num_ranks} ranks = {per_step}; set it to {' or '.join(options)}"
        )
    return global_batch_size // per_step


def save_resolved(output_dir: Path, recipes: Iterable[Any], data_files: Iterable[Path]) -> dict[str, Any]:
    """Write `recipe.yaml` and `provenance.json` into `output_dir` and return the resolved recipe.

    The first holds every key with its final value, the second the commit, the command, package versions and a
    SHA-256 of each data file, so that a result can be traced to what made it.

    Raises:
        RecipeError: the folder holds checkpoints of another recipe, which training would silently go on from.
    """
    resolved: dict[str, Any] = {}
    for recipe in recipes:
        resolved.update(_plain(recipe))
    _refuse_other_checkpoints(output_dir, resolved)
    provenance = {
        "command": sys.argv,
        "commit": _commit(),
        "data": {str(path): file_digest(path) for path in data_files},
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "deepspeed")},
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    _replace_text(output_dir / "recipe.yaml", yaml.safe_dump(resolved, sort_keys=True))
    _replace_text(output_dir / "provenance.json", json.dumps(provenance, indent=2) + "\n")
    return resolved


def comparable(resolved: dict[str, Any]) -> dict[str, str]:
    """Return a resolved recipe as text, without what may differ between two runs of the same thing."""
    volatile = {"local_rank", "logging_dir", "run_name", "resume_from_checkpoint", "use_cpu", "ddp_backend"}
    return {key: str(value) for key, value in sorted(resolved.items()) if key not in volatile}


def _refuse_other_checkpoints(output_dir: Path, resolved: dict[str, Any]) -> None:
    path = output_dir / "recipe.yaml"
    if not path.is_file() or not any(output_dir.glob("checkpoint-*")):
        return
    old, new = comparable(read_mapping(path)), comparable(resolved)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if changed:
        raise RecipeError(
            f"{output_dir}: holds checkpoints of a run with another {', '.join(changed)}; delete the folder to train "
            "anew, or set another output_dir"
        )


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines, without checking its keys.

    Raises:
        RecipeError: the file is missing, not YAML, or no mapping.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; those that come with the project lie under recipes/")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML ({error})") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path}: want one `key: value` a line")
    return recipe


def check_key(key: str, known: list[str], where: str) -> None:
    """Refuse a key that is not known, naming the nearest one that is."""
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise RecipeError(f"{where}: unknown key {key!r}; the nearest known key is {near[0]!r}")


def flag_value(argv: Sequence[str], name: str) -> str | None:
    """Return the value of `--name value` or `--name=value`, the last one given."""
    value = None
    for index, argument in enumerate(argv):
        if argument == name and index + 1 < len(argv):
            value = argv[index + 1]
        elif argument.startswith(name + "="):
            value = argument.partition("=")[2]
    return value


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cpu_settings() -> dict[str, Any]:
    """Return what TrainingArguments must be told without a GPU.

    Unless `use_cpu` is said, ranks started on CPUs keep a model each and never exchange a gradient; and accelerate
    finds no backend for DeepSpeed on CPUs by itself.
    """
    import torch  # here, since the pipeline driver reads recipes too and has no other use for its 200 MiB

    if torch.cuda.is_available():
        return {}
    return {"use_cpu": True} | ({"ddp_backend": "gloo"} if "LOCAL_RANK" in os.environ else {})


class _Parser(TrlParser):
    """Raises instead of printing a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _check_values(recipe: Any, where: str) -> None:
    """Refuse values of another type than declared: argparse checks those of flags, not those of the file."""
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments checks and converts its own
        return
    for name, type_ in get_type_hints(type(recipe)).items():  # the parser rewrites the fields' own types
        value = getattr(recipe, name)
        if not _fits(value, type_):
            raise RecipeError(f"{where}: {name} is {value!r}, want {' or '.join(_names(type_))}")


def _check_seed(recipe: Any, where: str) -> None:
    """Refuse a seed that numpy, and with it every stage, cannot start from."""
    seed = getattr(recipe, "seed", 0)
    if not 0 <= seed < 2**32:
        raise RecipeError(f"{where}: seed is {seed}, want a whole number from 0 to {2**32 - 1}")


def _fits(value: Any, type_: Any) -> bool:
    origin, parts = get_origin(type_), get_args(type_)
    if origin is Literal:
        return value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if isinstance(value, bool):
        return type_ is bool
    return isinstance(value, int | float) if type_ is float else isinstance(value, type_)


def _names(type_: Any) -> list[str]:
    """Return what a type accepts, in words."""
    origin, parts = get_origin(type_), get_args(type_)
    if origin is Literal:
        return [repr(part) for part in parts]
    if origin in (Union, UnionType):
        return [name for part in parts for name in _names(part)]
    if origin is list:
        return [f"a list of {' or '.join(_names(parts[0]))}"]
    return ["nothing" if type_ is type(None) else type_.__name__]


def _check_file(argv: Sequence[str], known: list[str]) -> None:
    path = Path(_config_name(argv))
    for key in read_mapping(path):
        check_key(str(key), known, str(path))


def _check_flags(argv: Sequence[str], known: list[str]) -> None:
    for argument in argv:
        if argument.startswith("--") and argument not in ("--config", "--help"):
            name = argument[2:].split("=")[0].replace("-", "_")
            if name.removeprefix("no_") not in known:
                check_key(name, known, "command line")


def _config_name(argv: Sequence[str]) -> str:
    if "--config" not in argv:
        return "command line"
    index = list(argv).index("--config") + 1
    if index >= len(argv):
        raise RecipeError("--config: want the path of a recipe after it")
    return argv[index]


def _plain(recipe: Any) -> dict[str, Any]:
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments: hides tokens
        return {key: value for key, value in recipe.to_sanitized_dict().items() if value is not None}
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(recipe).items()}


def _commit() -> str | None:
    """Return the commit of this checkout, with `+dirty` where it was edited, or None outside a checkout."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    git = ["git", "-C", root]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+dirty" if dirty.stdout.strip() else "")


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # its own, since every rank writes
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


__all__ = [
    "RecipeError",
    "accumulation_steps",
    "check_key",
    "file_digest",
    "flag_value",
    "read_mapping",
    "read_recipe",
    "require_max_steps",
    "save_resolved",
]

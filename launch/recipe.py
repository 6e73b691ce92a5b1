"""Recipes: one flat YAML file a stage, read strictly into typed dataclasses; flags on the command line win."""

import dataclasses
import difflib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from trl import TrlParser

from compressor.fixed_settings import FIXED_IN_TRAINING, default_of, refuse_changed
from launch.credentials import receive_credentials, redact_mapping

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


_NO_EVALUATION = "a training stage evaluates once, at its end; leave it out"
_FIXED_IN_STAGES = {
    "num_train_epochs": "max_steps says how long a stage trains; set that",
    "gradient_accumulation_steps": (
        "it is computed from global_batch_size, per_device_train_batch_size and the number of ranks; set those"
    ),
    "average_tokens_across_devices": "losses are exact means over the global batch in any case; leave it out",
    "resume_from_checkpoint": "a stage goes on from the newest checkpoint of its output_dir by itself; leave it out",
    "do_train": "a training stage trains; leave it out",
    **dict.fromkeys(
        (
            "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps",
            "eval_do_concat_batches", "eval_use_gather_object", "per_device_eval_batch_size", "prediction_loss_only",
            "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval", "do_eval", "do_predict",
            "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
        ),
        _NO_EVALUATION,
    ),
}  # fmt: skip
"""Keys of transformers that a stage decides by itself: why, and the remedy."""


# Keys of earlier versions, and what says the same now.
_REPLACED = {
    "match_marginals": "`marginals: near` for true, `marginals: free` for false",
    "drop_surplus": "`marginals: equal` for true, `marginals: near` and `max_dropped_share: 0` for false",
}


class RecipeError(ValueError):
    """A recipe that cannot be used as written; the message names the file, the key and the remedy."""


@dataclass(kw_only=True)
class StageRecipe:
    """The keys of every stage."""

    pipeline: str = field(default="default", metadata={"help": "name of the parent MLflow run"})
    experiment: str = field(default="epo", metadata={"help": "MLflow experiment"})
    fresh: bool = field(
        default=False, metadata={"help": "start anew; what output_dir holds is kept in a folder beside it"}
    )

    @property
    def reads_clips(self) -> bool:
        """Whether recordings go into the result, and not only the words about them."""
        return True


def read_recipe(types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Read `--config FILE [--key value ...]` into one instance of each dataclass.

    Args:
        types: dataclasses whose fields are the known keys, together.
        argv: the arguments without the program's name; None takes them from the command line.

    Raises:
        RecipeError: the file is missing or no mapping, a key is unknown (the nearest known one is named), or a
            value does not convert.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(types, argv)
    hardware = _cpu_settings() if any(_is_foreign(type_) for type_ in types) else {}
    values = _said(parser, types, argv, hardware)
    _refuse_fixed(types, values, _config_name(argv))
    try:
        recipes = tuple(parser.parse_args_and_config(argv))
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{_config_name(argv)}: {error}") from error
    for recipe in recipes:
        _check_values(recipe, _config_name(argv))
        receive_credentials(recipe)
    return recipes


def declared(types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a recipe says, without making anything of it, and what it would say by default.

    Of the project's own classes every key is there, of `EpoArguments` those it adds to TRL's; of transformers' and
    TRL's only what differs from their own default, so that a new release with more keys changes nothing. Hardware is
    not asked, so that a machine which only starts jobs gets what a rank gets.

    Args and errors: those of `read_recipe`, but for what only transformers and TRL find wrong in a value.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    values = _said(_parser(types, argv), types, argv, {})
    _check_seeds(values, _config_name(argv))
    _refuse_fixed(types, values, _config_name(argv))
    kept: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for type_ in types:
        fields = [field for field in dataclasses.fields(type_) if field.init]
        defaults |= {field.name: default_of(field) for field in fields}
        own = {field.name: values[field.name] for field in fields}
        if _is_foreign(type_):
            ours = _own_keys(type_)
            own = {name: value for name, value in own.items() if name in ours or value != defaults[name]}
        else:
            try:
                recipe = type_(**own)
            except ValueError as error:
                raise RecipeError(f"{_config_name(argv)}: {error}") from error
            _check_values(recipe, _config_name(argv))
        kept |= own
    return kept, defaults


def resolved_keys(recipes: Iterable[Any]) -> dict[str, Any]:
    """Return every key of a recipe with its final value, as it is written beside the result."""
    resolved: dict[str, Any] = {}
    for recipe in recipes:
        resolved.update(redact_mapping(_plain(recipe)))
    return resolved


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


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines, without checking its keys.

    Raises:
        RecipeError: the file is missing, not YAML, or no mapping.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; those that come with the project lie under recipes/")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path}: want one `key: value` a line")
    return recipe


def check_key(key: str, known: list[str], where: str) -> None:
    """Refuse a key that is not known, naming the nearest one that is."""
    if key in known:
        return
    if key in _REPLACED:
        raise RecipeError(f"{where}: key {key!r} has been replaced: write {_REPLACED[key]}")
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


def _cpu_settings() -> dict[str, Any]:
    """Return what TrainingArguments must be told without a GPU.

    Unless `use_cpu` is said, ranks started on CPUs keep a model each and never exchange a gradient; and accelerate
    finds no backend for DeepSpeed on CPUs by itself.
    """
    import torch  # here, since the pipeline driver reads recipes too and has no other use for its 200 MiB

    if torch.cuda.is_available():
        return {}
    return {"use_cpu": True} | ({"ddp_backend": "gloo"} if "LOCAL_RANK" in os.environ else {})


def _parser(types: Sequence[Any], argv: Sequence[str]) -> "_Parser":
    """Return a parser of the types' keys, after making sure that the file and the flags have no other."""
    known = sorted(_known_to(types))
    if "--config" in argv:
        _check_file(argv, known)
    _check_flags(argv, known)
    return _Parser(list(types), description=(types[0].__doc__ or "").strip())


def _said(
    parser: "_Parser", types: Sequence[Any], argv: Sequence[str], more_defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return each key's value as it was said or is by default, before anything is made of them."""
    config = read_mapping(Path(_config_name(argv))) if "--config" in argv else {}
    parser.set_defaults_with_config(**_known_to(types, _TRAINING_DEFAULTS | dict(more_defaults) | config))
    try:
        return vars(parser.parse_args(_without_config(argv)))
    except ValueError as error:
        raise RecipeError(f"{_config_name(argv)}: {error}") from error


def _known_to(types: Sequence[Any], values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return those of the values that are keys of the types; without values, every key."""
    names = [field.name for type_ in types for field in dataclasses.fields(type_) if field.init]
    return dict.fromkeys(names) if values is None else {name: values[name] for name in names if name in values}


class _Parser(TrlParser):
    """Raises instead of printing a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _check_values(recipe: Any, where: str) -> None:
    """Refuse seeds, and values of another type than declared: argparse checks those of flags, not those of the file."""
    _check_seeds(vars(recipe), where)
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments checks and converts its own
        return
    for name, type_ in get_type_hints(type(recipe)).items():  # the parser rewrites the fields' own types
        value = getattr(recipe, name)
        if not _fits(value, type_):
            raise RecipeError(f"{where}: {name} is {value!r}, want {' or '.join(_names(type_))}")


def _check_seeds(values: Mapping[str, Any], where: str) -> None:
    """Refuse seeds that NumPy and torch would refuse later."""
    for name in ("seed", "data_seed"):
        value = values.get(name)
        if isinstance(value, int) and not 0 <= value < 2**32:
            raise RecipeError(f"{where}: {name} is {value}, want a whole number from 0 to {2**32 - 1}")


def _refuse_fixed(types: Sequence[Any], values: Mapping[str, Any], where: str) -> None:
    """Refuse settings of transformers and TRL that would do nothing in a stage, or not what they say."""
    for type_ in filter(_is_foreign, types):
        try:
            refuse_changed(values, type_, FIXED_IN_TRAINING | _FIXED_IN_STAGES | getattr(type_, "FIXED", {}))
        except ValueError as error:
            raise RecipeError(f"{where}: {error}") from error


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


def _without_config(argv: Sequence[str]) -> list[str]:
    if "--config" not in argv:
        return list(argv)
    index = list(argv).index("--config")
    return [*argv[:index], *argv[index + 2 :]]


def _is_foreign(type_: Any) -> bool:
    """Tell transformers' TrainingArguments and its subclasses from the project's own dataclasses."""
    return hasattr(type_, "to_sanitized_dict")


def _own_keys(type_: Any) -> set[str]:
    """Return the keys that a class of the project adds to, or redefines of, those it inherits from TRL."""
    if type_.__module__.split(".")[0] not in ("compressor", "epo", "launch"):
        return set()
    return (
        set(vars(type_)["__annotations__"]) - getattr(type_, "FIXED", {}).keys() - FIXED_IN_TRAINING.keys() - {"FIXED"}
    )


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


__all__ = [
    "RecipeError",
    "accumulation_steps",
    "check_key",
    "read_mapping",
    "StageRecipe",
    "declared",
    "read_recipe",
    "resolved_keys",
    "require_max_steps",
]

"""Recipes: one flat YAML file a stage, read strictly into typed dataclasses; flags on the command line win."""

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trl import TrlParser

from compressor.fixed_settings import FIXED_IN_TRAINING, default_of, refuse_changed
from launch.keys.chosen_keys import ChosenBy, chosen_types, refuse_others
from launch.keys.other_flags import plain_flags
from launch.keys.parts_folder import receive_parts_root
from launch.keys.recipe_file import RecipeError, check_key, read_mapping
from launch.keys.recipe_help import format_help
from launch.keys.recipe_values import check_seeds, check_values
from launch.keys.run_names import Names, names_beside, says_run
from launch.keys.shipped import find_shipped
from launch.processes.credentials import receive_credentials, redact_mapping

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


_HELP = {"-h", "--help", "--help-all"}
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


def read_recipe(types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Read `--config FILE [--key value ...]` into one instance of each dataclass.

    Args:
        types: dataclasses whose fields are the known keys, together; a `ChosenBy` stands for the dataclass that the
            recipe itself chooses, and for none where what it chooses has no keys of its own.
            With `--help` or `--help-all` they are shown, and the process ends.
        argv: the arguments without the program's name; None takes them from the command line.

    Raises:
        RecipeError: the file is missing or no mapping, a key is unknown (the nearest known one is named) or belongs to
            something that was not chosen, or a value does not convert.
    """
    argv = sys.argv[1:] if argv is None else argv
    if _HELP & set(argv):
        _show_help(types, argv)
        raise SystemExit(0)
    said = _hear(types, argv)
    hardware = _cpu_settings() if any(_is_foreign(type_) for type_ in said.types) else {}
    parser = _parser(said, hardware)
    _refuse_fixed(said, _values(parser, said))
    try:
        recipes = tuple(parser.parse_args_into_dataclasses(said.flags))
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{said.where}: {error}") from error
    for recipe in recipes:
        check_values(recipe, said.where)
        receive_credentials(recipe)
        receive_parts_root(recipe)
    return recipes


def declared(types: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a recipe says, without making anything of it, and what it would say by default.

    Of the project's own classes every key is there, of `EpoArguments` those it adds to TRL's; of transformers' and
    TRL's only what differs from their own default, so that a new release with more keys changes nothing. Hardware is
    not asked, so that a machine which only starts jobs gets what a rank gets.

    Args and errors: those of `read_recipe`, but for what only transformers and TRL find wrong in a value.
    """
    said = _hear(types, sys.argv[1:] if argv is None else argv)
    values = _values(_parser(said, {}), said)
    check_seeds(values, said.where)
    _refuse_fixed(said, values)
    kept: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for type_ in said.types:
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
                raise RecipeError(f"{said.where}: {error}") from error
            check_values(recipe, said.where)
        kept |= own
    return kept, defaults


def said_output_dir(argv: Sequence[str]) -> str:
    """Return the `output_dir` that a command line and its recipe say, as far as one can tell where they are faulty."""
    where, recipe, config, flags = _open(argv)
    flag = flag_value(flags, "--output_dir")
    said = config.get("output_dir") if flag is None else flag
    try:
        return str(_names(recipe, config, flags, where).fill(said, where))
    except RecipeError:
        return str(said)


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


def require_rated_batches(vad_weight: float, micro_batch_size: int) -> None:
    """Refuse to learn valence, arousal and dominance from one clip at a time, of which there is no concordance.

    Raises:
        RecipeError: names the key to raise.
    """
    if vad_weight > 0 and micro_batch_size < 2:
        raise RecipeError(
            "vad_weight: concordance is of two clips or more, and a micro-batch has one; raise "
            "per_device_train_batch_size"
        )


def flag_value(argv: Sequence[str], name: str) -> str | None:
    """Return the value of `--name value` or `--name=value`, the last one given."""
    value = None
    for index, argument in enumerate(argv):
        if argument == name and index + 1 < len(argv):
            value = argv[index + 1]
        elif argument.startswith(name + "="):
            value = argument.partition("=")[2]
    return value


def _show_help(types: Sequence[Any], argv: Sequence[str]) -> None:
    """Print the keys, on rank 0; of what a key chooses those that the command line says."""
    if os.environ.get("RANK", "0") != "0":
        return
    where, _, said, flags = _open(argv)
    choices = [type_ for type_ in types if isinstance(type_, ChosenBy)]
    for choice in choices:
        said[choice.key] = flag_value(flags, f"--{choice.key}") or said.get(choice.key, choice.default)
    concrete = chosen_types(types, said, where)
    foreign = [type_ for type_ in concrete if _is_foreign(type_)]
    notes = [
        f"Another {choice.key} has other keys: --{choice.key} NAME --help; there are {', '.join(choice.values())}"
        for choice in choices
    ]
    print(format_help(concrete, {type_: _own_keys(type_) for type_ in foreign}, _TRAINING_DEFAULTS, notes))
    if "--help-all" in argv:
        print("\n" + "\n".join(_Parser([type_], add_help=False).format_help() for type_ in foreign))


def _cpu_settings() -> dict[str, Any]:
    """Return what TrainingArguments must be told without a GPU.

    Unless `use_cpu` is said, ranks started on CPUs keep a model each and never exchange a gradient; and accelerate
    finds no backend for DeepSpeed on CPUs by itself.
    """
    import torch  # here, since the pipeline driver reads recipes too and has no other use for its 200 MiB

    if torch.cuda.is_available():
        return {}
    return {"use_cpu": True} | ({"ddp_backend": "gloo"} if "LOCAL_RANK" in os.environ else {})


@dataclass(frozen=True)
class _Said:
    """What a command line and its recipe say, before anything is made of it.

    Attributes:
        where: the recipe's path, or "command line"; for messages.
        config: the recipe's keys, and those that its run says for it; every `${name}` is filled in.
        flags: the command line without `--config FILE`, filled in likewise.
        types: the dataclasses whose keys these are.
    """

    where: str
    config: dict[str, Any]
    flags: list[str]
    types: list[type[Any]]


def _hear(types: Sequence[Any], argv: Sequence[str]) -> _Said:
    """Read the recipe that a command line names, and make sure that it and the flags say nothing unknown."""
    where, recipe, config, flags = _open(argv)
    choices = [type_.key for type_ in types if isinstance(type_, ChosenBy)]
    chosen = {key: text for key in choices if (text := flag_value(flags, f"--{key}")) is not None}
    concrete = chosen_types(types, config | chosen, where)
    known = sorted({field.name for type_ in concrete for field in dataclasses.fields(type_) if field.init})
    flags = plain_flags(flags, known)
    for place, keys in ((where, config), ("command line", _flag_names(flags, known))):
        for key in map(str, keys):
            if key not in known:
                refuse_others(key, types, config | chosen, place)
                check_key(key, known, place)
    names = _names(recipe, config, flags, where)
    filled = {key: names.fill(value, f"{where}: {key}") for key, value in config.items()}
    return _Said(where, names.shared() | filled, [_fill_flag(flag, names) for flag in flags], concrete)


def _open(argv: Sequence[str]) -> tuple[str, Path | None, dict[str, Any], list[str]]:
    """Return the name of a command line's recipe for messages, its path, its keys, and the flags beside it."""
    words = [
        part for word in plain_flags(argv) for part in (word.split("=", 1) if word.startswith("--config=") else [word])
    ]
    if "--config" not in words:
        return "command line", None, {}, words
    place = words.index("--config")
    if words[place + 1 :] == []:
        raise RecipeError("--config: want the path of a recipe after it")
    path = Path(find_shipped(words[place + 1]))
    return str(path), path, read_mapping(path), [*words[:place], *words[place + 2 :]]


def _names(recipe: Path | None, config: Mapping[str, Any], flags: Sequence[str], where: str) -> Names:
    """Return what `${name}` stands for: a flag `--run` comes first, then the recipe's own `run`, then `run.yaml`."""
    run = flag_value(flags, "--run")
    if run is None:
        return names_beside(recipe, config.get("run"), where)
    if not says_run(config) and not says_run(flags):
        raise RecipeError(f"--run {run}: would rename nothing, for no value of {where} says ${{run}}; write it there")
    return names_beside(recipe, run)


def _fill_flag(flag: str, names: Names) -> str:
    name, equals, value = flag.partition("=") if flag.startswith("--") else ("", "", flag)
    return f"{name}{equals}{names.fill(value, 'command line')}"


def _parser(said: _Said, more_defaults: Mapping[str, Any]) -> "_Parser":
    """Return a parser of the flags whose defaults are what the recipe says."""
    parser = _Parser(said.types, description=(said.types[0].__doc__ or "").strip())
    known = {field.name for type_ in said.types for field in dataclasses.fields(type_)}
    defaults = _TRAINING_DEFAULTS | dict(more_defaults) | said.config
    parser.set_defaults_with_config(**{name: value for name, value in defaults.items() if name in known})
    return parser


def _values(parser: "_Parser", said: _Said) -> dict[str, Any]:
    """Return each key's value as it was said or is by default."""
    try:
        values: dict[str, Any] = vars(parser.parse_args(said.flags))
    except ValueError as error:
        raise RecipeError(f"{said.where}: {error}") from error
    return values


class _Parser(TrlParser):
    """Raises instead of printing a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    def add_argument(self, *names: Any, role: str | None = None, **settings: Any) -> Any:
        """Take a field's metadata, of which `role` is for launch/keys/roles.py alone."""
        return super().add_argument(*names, **settings)


def _refuse_fixed(said: _Said, values: Mapping[str, Any]) -> None:
    """Refuse settings of transformers and TRL that would do nothing in a stage, or not what they say."""
    for type_ in filter(_is_foreign, said.types):
        try:
            refuse_changed(values, type_, FIXED_IN_TRAINING | _FIXED_IN_STAGES | getattr(type_, "FIXED", {}))
            if hasattr(type_, "check"):
                type_.check(values)
        except ValueError as error:
            raise RecipeError(f"{said.where}: {error}") from error


def _flag_names(flags: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the keys that flags name; `--no_decode` names `decode` where that is one."""
    names = [flag[2:].split("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")]
    return [name.removeprefix("no_") if name.removeprefix("no_") in known else name for name in names]


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


def _plain(recipe: Any) -> dict[str, Any]:
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments: hides tokens
        return {key: value for key, value in recipe.to_sanitized_dict().items() if value is not None}
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(recipe).items()}


__all__ = [
    "ChosenBy",
    "RecipeError",
    "accumulation_steps",
    "check_key",
    "read_mapping",
    "declared",
    "flag_value",
    "read_recipe",
    "resolved_keys",
    "require_max_steps",
    "require_rated_batches",
]

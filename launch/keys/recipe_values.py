"""Whether the values of a recipe have the types that its dataclass declares: argparse looks at those of flags alone."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from launch.keys.recipe_file import RecipeError


def check_values(recipe: Any, where: str) -> None:
    """Refuse seeds and numbers out of range, and values of another type than declared.

    Raises:
        RecipeError: names the key, what came and what is wanted.
    """
    check_seeds(vars(recipe), where)
    check_ranges(vars(recipe), where)
    if hasattr(recipe, "to_sanitized_dict"):  # transformers' TrainingArguments checks and converts its own
        _check_reporters(recipe.report_to, where)
        return
    for name, type_ in get_type_hints(type(recipe)).items():  # the parser rewrites the fields' own types
        value = getattr(recipe, name)
        if not _fits(value, type_):
            raise RecipeError(f"{where}: {name} is {value!r}, want {' or '.join(_names(type_))}")


_AT_LEAST = {
    "learning_rate": 0, "weight_decay": 0, "adam_epsilon": 0, "max_grad_norm": 0, "dataloader_num_workers": 0,
    "per_device_train_batch_size": 1, "global_batch_size": 1, "save_total_limit": 1, "lora_rank": 1, "lora_alpha": 0,
    "max_dialogues": 1, "max_new_tokens": 1, "batch_size": 1,
}  # fmt: skip
_BELOW_ONE = ("adam_beta1", "adam_beta2", "lora_dropout")


def check_ranges(values: Mapping[str, Any], where: str) -> None:
    """Refuse numbers that a library would refuse with a traceback, or take and do something else: decay that grows.

    Raises:
        RecipeError: names the key, what came and what is wanted.
    """
    for name, value in values.items():
        if name == "output_dir" and value == "":
            raise RecipeError(f"{where}: output_dir is empty, want the path of a folder")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isnan(value):
            raise RecipeError(f"{where}: {name} is nan, want a number")
        if name in _AT_LEAST and value < _AT_LEAST[name]:
            raise RecipeError(f"{where}: {name} is {value}, want {_AT_LEAST[name]} or more")
        if name in _BELOW_ONE and not 0 <= value < 1:
            raise RecipeError(f"{where}: {name} is {value}, want 0 or more and less than 1")
        if name == "save_steps" and value <= 0:
            raise RecipeError(f"{where}: save_steps is {value}, want the steps between two checkpoints")


# Names of transformers for what a training may report to, and packages of which each needs one.
REPORTERS: dict[str, tuple[str, ...]] = {name: (name,) for name in (
    "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "mlflow", "neptune", "swanlab", "trackio", "wandb",
)} | {
    "azure_ml": ("azureml",), "flyte": ("flytekit",), "kubeflow": (), "tensorboard": ("tensorboard", "tensorboardX"),
}  # fmt: skip


def _check_reporters(names: Sequence[str], where: str) -> None:
    """Refuse to report to what is not there: transformers would say so when models and data are loaded."""
    for name in names:
        if name not in REPORTERS:
            raise RecipeError(f"{where}: report_to is {name!r}, want one of {', '.join(sorted(REPORTERS))}, or none")
        packages = REPORTERS[name]
        if packages and all(importlib.util.find_spec(package) is None for package in packages):
            needed = packages[0]
            raise RecipeError(f"{where}: report_to: {name} needs {needed}: pip install {needed}; or leave it out")


def check_seeds(values: Mapping[str, Any], where: str) -> None:
    """Refuse seeds that NumPy and torch would refuse later."""
    for name in ("seed", "data_seed"):
        value = values.get(name)
        if isinstance(value, int) and not 0 <= value < 2**32:
            raise RecipeError(f"{where}: {name} is {value}, want a whole number from 0 to {2**32 - 1}")


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


__all__ = ["REPORTERS", "check_ranges", "check_seeds", "check_values"]

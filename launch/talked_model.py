"""Talked model: which model a person talks to, its settings on the command line, and loading it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.recipe import RecipeError

QUICKSTART = Path("runs/quickstart")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Give a command line the options of the model and of its replies."""
    parser.add_argument("--model", help=f"folder of a model, or of an adapter; none: {QUICKSTART}, once it is finished")
    parser.add_argument("--adapter", help="folder of an adapter of launch/epo.py on the model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="longest reply")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest words")


def parse_talk(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line that has `add_model_options`.

    Raises:
        RecipeError: a number of theirs makes no sense.
    """
    options = parser.parse_args(argv)
    if options.max_new_tokens < 1:
        raise RecipeError(f"--max_new_tokens is {options.max_new_tokens}, want 1 or more")
    if not 0 <= options.temperature < float("inf"):
        raise RecipeError(f"--temperature is {options.temperature}, want 0 or more")
    return options


def load_chosen(options: argparse.Namespace, hint: str) -> tuple[Any, Any, dict[str, Any]]:
    """Load the model of `add_model_options` and return it, its processor, and the settings of its replies.

    Args:
        options: as parsed.
        hint: what to say while it loads.

    Raises:
        RecipeError: as `chosen`.
        FolderError: as `chosen`.
    """
    model, adapter = chosen(options.model, options.adapter)
    print(f"loading {model}{'' if adapter is None else f' with {adapter}'}; {hint}", flush=True)
    settings = {"max_new_tokens": options.max_new_tokens, "temperature": options.temperature}
    return *load_talked(model, adapter, options.dtype), settings


def load_talked(folder: str, adapter: str | None, dtype: str) -> tuple[Any, Any]:
    """Load a model and the adapter on it, onto the GPU where there is one; return it and its processor."""
    import torch

    from epo.model.loading import load_adapter, load_model

    whole, processor = load_model(folder, dtype)
    policy = whole if adapter is None else load_adapter(whole, adapter)
    return policy.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")), processor


def chosen(model: str | None, adapter: str | None) -> tuple[str, str | None]:
    """Return the folders of the model and of the adapter on it: those that are named, else those of the quickstart.

    Raises:
        RecipeError: none is named, and there is no finished quickstart; or an adapter is named without its model.
        FolderError: the folder holds neither a model nor an adapter.
    """
    from epo.evaluation.folders import base_folder, is_adapter

    if model is not None:
        if is_adapter(model):
            if adapter is not None:
                raise RecipeError(f"--adapter {adapter}: --model {model} is an adapter already; name one of them")
            return base_folder(model), model
        if adapter is not None and not is_adapter(adapter):
            raise RecipeError(f"--adapter {adapter}: is a whole model; name it as --model")
        return model, adapter
    if adapter is not None:
        if not is_adapter(adapter):
            raise RecipeError(f"--adapter {adapter}: is a whole model; name it as --model")
        return base_folder(adapter), adapter
    if all((QUICKSTART / name / "stage.json").is_file() for name in ("sft", "epo")):
        sft, epo = (str(QUICKSTART / name) for name in ("sft", "epo"))
        return (sft, epo) if is_adapter(epo) else (epo, None)
    raise RecipeError(
        f"name a model: --model FOLDER, written by launch/sft.py or launch/epo.py; {QUICKSTART} has none finished "
        "(epo quickstart makes one)"
    )


__all__ = ["QUICKSTART", "add_model_options", "chosen", "load_chosen", "load_talked", "parse_talk"]

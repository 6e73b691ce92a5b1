"""How a process of ours keeps the credentials it was given: it uses them, and shows and stores none of them."""

import os
import sys
from typing import Any, TextIO

from epo.redaction import (
    flag_values,
    is_secret_name,
    redact,
    redact_command,
    redact_mapping,
    remember,
    secret_values,
)


def guard_streams() -> None:
    """Let no credential out on stdout and stderr: all that is printed, logged, warned of or raised passes `redact`.

    Every stage and the driver call it first. The streams stay the objects they are, since handlers of other libraries'
    loggers hold them already.
    """
    remember(secret_values(flag_values(sys.argv[1:])))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and "write" not in vars(stream):
            _guard(stream)


def _guard(stream: TextIO) -> None:
    write = stream.write

    def write_redacted(text: str) -> int:
        write(redact(text))
        return len(text)

    vars(stream)["write"] = write_redacted  # found before the class's, by `print` and by the interpreter alike


def receive_credentials(recipe: Any) -> None:
    """Remember the credentials in a recipe, and let its `hub_token` be used without being kept in it.

    A Trainer pickles its arguments into every checkpoint. The token moves to `HF_TOKEN`, where the Hub's client looks
    for one that it is not told.
    """
    remember(secret_values(vars(recipe)))
    if getattr(recipe, "hub_token", None) is not None:
        os.environ["HF_TOKEN"] = recipe.hub_token
        recipe.hub_token = None


__all__ = [
    "guard_streams",
    "is_secret_name",
    "receive_credentials",
    "redact",
    "redact_command",
    "redact_mapping",
]

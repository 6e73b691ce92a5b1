"""Files that are whole or not there."""

import uuid
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file, UTF-8, under a name of its own first, so that no reader ever finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


__all__ = ["write_whole"]

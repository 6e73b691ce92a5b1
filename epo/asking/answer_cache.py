"""Answers already paid for: an append-only JSONL file keyed by what was asked, safe to kill at any moment."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any


class AnswerCache:
    """Remembers text by key; may be shared by threads of one process."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line that was cut off while it was written is removed."""
        self._path = path
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for line in whole.splitlines():
            row = json.loads(line)
            self._answers[row["key"]] = row["text"]

    def get(self, key: str) -> str | None:
        """Return the answer to a question asked before."""
        return self._answers.get(key)

    def put(self, key: str, text: str) -> None:
        """Remember an answer, on disk before this returns."""
        line = json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            self._answers[key] = text


def question_key(**parts: Any) -> str:
    """Return a SHA-256 over everything the answer depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

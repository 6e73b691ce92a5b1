"""The card of an exported model: what it is made from, how it was trained, what was measured, and what it cannot do."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epo.redaction import redact

_LIMITS = """\
- It guesses feelings from a few seconds of face and voice, and from words; it is often wrong, and more often for people
  unlike those in its data. It must not decide anything about anybody.
- It is no therapist. In a crisis people need people: do not put it where nobody would notice one.
- It was tuned to answer in a fitting emotion, not to be right: what it says may be untrue.
- The licences of the language model, the encoders and the data it was made from hold for it too.
"""
_SHOWN = ("accuracy", "loss", "nll", "margin", "score", "recall", "f1", "rouge", "bert", "inappropriate", "appropriate")


def model_card(title: str, form: str, dtype: str, sources: Sequence[Path], report: str | None) -> str:
    """Return the card, Markdown with the front matter that model hubs read; credentials are left out.

    Args:
        title: its heading.
        form: "merged" or "adapter".
        dtype: of the weights of a merged model.
        sources: folders of the stages it comes from, whose `recipe.yaml`, `identity.json` and `stage.json` are read
            where they are there; the last is the newest.
        report: `report.json` of an evaluation, or None.
    """
    library = "peft" if form == "adapter" else "transformers"
    parts = [
        f"---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags: [dialogue, empathy, epo]\n---",
        f"# {title}",
        "Answers in dialogues, hearing and seeing how a person feels; tuned by Emotional Preference Optimization "
        "(after arXiv 2412.17572).",
        _form(form, dtype),
        f"## Use\n\n{_USE_MERGED if form == 'merged' else _USE_ADAPTER}",
        *(section for source in sources for section in _stage(source)),
        *([] if report is None else [_report(Path(report))]),
        f"## Limits\n\n{_LIMITS}",
    ]
    return redact("\n\n".join(parts))


_ANSWER = """\
from pathlib import Path
from epo.data.dialogue import Clip, Turn
past = (Turn("user", "I met Mira at the lake."), Turn("assistant", "How was it?"))
now = Turn("user", "Long and windy.", clip=Clip(audio=Path("me.wav"), video=Path("me.mp4")))  # or no clip
place = epo.Reply("mine", 3, past, now, text="", emotion=None)
print(epo.answer(model, processor, [place])[0])
"""
_USE_MERGED = f"""\
`pip install epo-trainer`, then

```python
import epo
model, processor = epo.load_model("THIS FOLDER")
{_ANSWER}```"""
_USE_ADAPTER = f"""\
`pip install epo-trainer`; the model it belongs to is named below by the digest of its weights.

```python
import epo
model, processor = epo.load_model("FOLDER OF THE MODEL")
model = epo.load_adapter(model, "THIS FOLDER")
{_ANSWER}```"""


def _form(form: str, dtype: str) -> str:
    if form == "adapter":
        return "This folder holds the LoRA alone."
    rounded = " and rounded to bfloat16 once: changes under 1/512 of a weight are lost" if dtype == "bfloat16" else ""
    return (
        f"This folder holds the whole model; what was trained beside the weights is added to them in float32{rounded}."
    )


def _stage(folder: Path) -> list[str]:
    """Return what a stage's folder tells of how it was made."""
    recipe, identity, done = (folder / name for name in ("recipe.yaml", "identity.json", "stage.json"))
    sections = []
    weights = sorted(folder.glob("*.safetensors"))
    if weights:
        rows = "\n".join(f"| {file.name} | `{_digest(file)}` |" for file in weights)
        sections.append(f"## Made from {folder.name}: weights\n\n| file | SHA-256 |\n|---|---|\n{rows}")
    if identity.is_file():
        inputs = _read(identity).get("inputs", {})
        rows = "\n".join(
            f"| {key} | {Path(str(row.get('path', ''))).name} | `{row.get(kind, '')}` |"
            for key, row in sorted(inputs.items())
            for kind in ("content", "clips")
            if row.get(kind)
        )
        sections.append(
            f"## {folder.name}: data and parts, by content\n\n| input | name | digest |\n|---|---|---|\n{rows}"
        )
    if recipe.is_file():
        text = recipe.read_text(encoding="utf-8").strip()
        sections.append(f"## {folder.name}: recipe\n\n```yaml\n{text}\n```")
    numbers = _numbers(_read(done)) if done.is_file() else {}
    if numbers:
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in numbers.items())
        sections.append(f"## {folder.name}: results\n\n| | |\n|---|---|\n{rows}")
    return sections


def _report(path: Path) -> str:
    numbers = _numbers(_read(path))
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in numbers.items())
    return f"## Evaluation ({path.name}, SHA-256 `{_digest(path)}`)\n\n| | |\n|---|---|\n{rows}"


def _numbers(tree: Any, prefix: str = "") -> dict[str, float]:
    """Return the numbers in nested mappings whose names say that they are results, by their joined names."""
    found: dict[str, float] = {}
    for name, value in tree.items() if isinstance(tree, dict) else ():
        whole = f"{prefix}{name}"
        if isinstance(value, dict):
            found |= _numbers(value, f"{whole}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if any(word in whole.lower() for word in _SHOWN):
                found[whole] = float(value)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = ["model_card"]

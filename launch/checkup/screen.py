"""What a checkup found as text: one screen for a stage, a few lines each for the stages of a pipeline."""

import textwrap
from collections.abc import Iterator, Sequence

from launch.checkup.checkup import Checkup
from launch.checkup.parts_found import PartFound
from launch.folder.space import size_text

_WIDTH, _INDENT = 100, 12


def format_stage(found: Checkup) -> str:
    """Return the screen of a stage."""
    groups = {
        "parts": [_part(part) for part in found.parts],
        "parameters": _parameters(found),
        "memory": _memory(found),
        "work": found.work,
        "kernels": found.kernels,
        "around": found.around,
    }
    lines = _wrapped(found.title, "")
    for heading, entries in groups.items():
        for number, entry in enumerate(entries):
            lines += _wrapped(entry, heading if number == 0 else "", _INDENT)
    return "\n".join([*lines, *_verdict(found)])


def format_pipeline(found: Sequence[Checkup]) -> str:
    """Return a few lines for each stage of a pipeline, and what is wrong, each line once."""
    width = max(len(one.name) for one in found) + 2
    lines: list[str] = []
    said: set[str] = set()
    for one in found:
        texts = [text for text in (_short_parameters(one), _short_memory(one), *one.work[:1]) if text]
        lines += _wrapped("; ".join(texts) or "nothing to tell", one.name, width)
        for kind, message in _messages(one):
            if message not in said:
                said.add(message)
                lines += _wrapped(f"{kind}: {message}", "", width)
    around = next((one.around for one in reversed(found) if one.around), [])
    for number, entry in enumerate(around[-2:] if len(around) > 1 else around):
        lines += _wrapped(entry, "around" if number == 0 else "", width)
    num = len([one for one in found if one.problems])
    lines.append(f"{num} of {len(found)} stages cannot run" if num else f"all {len(found)} stages can run")
    return "\n".join(lines)


def _part(part: PartFound) -> str:
    family = "" if part.config is None else f", {part.config.model_type}"
    size = "" if part.size is None else f", {size_text(part.size)}"
    stored = "" if part.stored is None else f" {part.stored}"
    return f"{part.key}: {part.name}: {part.place}{family}{size}{stored}"


def _parameters(found: Checkup) -> list[str]:
    if not found.parameters:
        return []
    counts = found.parameters
    everything = {**counts, "all": (sum(pair[0] for pair in counts.values()), sum(pair[1] for pair in counts.values()))}
    width = max(len(name) for name in everything)
    lines = [f"{'':{width}} {'trained':>15} {'frozen':>15}"]
    return [*lines, *(f"{name:{width}} {pair[0]:>15,} {pair[1]:>15,}" for name, pair in everything.items())]


def _memory(found: Checkup) -> list[str]:
    if found.memory is None or found.device is None or found.lengths is None:
        return []
    held, sizes = found.memory.held, found.lengths.longest
    parts = {
        "weights": held.weights,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        "buffers": held.buffers,
        "activations": found.memory.activations,
    }
    of_them = {"weights": ("LoRA", found.memory.lora), "activations": ("logits once", found.memory.logits)}
    texts = []
    for name, size in parts.items():
        if size:
            inside, share = of_them.get(name, ("", 0))
            texts.append(f"{name} {size_text(size)}" + (f" ({inside} {size_text(share)})" if share else ""))
    clip = f", {sizes.mel_frames / 100:.1f} s and {sizes.video_frames} frames" if sizes.mel_frames else ""
    rows = f"{sizes.rows} rows of {sizes.tokens} tokens" if sizes.tokens else f"{sizes.rows} clips"
    return [
        f"about {size_text(found.memory.peak)} a device, of {size_text(found.device.memory)}: {found.device.name}",
        ", ".join(texts),
        f"{rows}{clip}, from {found.lengths.source}; Python and torch themselves come on top",
    ]


def _short_parameters(found: Checkup) -> str:
    if not found.parameters:
        return ""
    trained, frozen = (sum(counts[i] for counts in found.parameters.values()) for i in (0, 1))
    return f"{_short(trained)} parameters train, {_short(frozen)} stay"


def _short_memory(found: Checkup) -> str:
    return "" if found.memory is None else f"{size_text(found.memory.peak)} a device"


def _short(number: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _messages(found: Checkup) -> Iterator[tuple[str, str]]:
    for kind, messages in (("error", found.problems), ("warning", found.warnings)):
        for message in dict.fromkeys(messages):
            yield kind, message


def _verdict(found: Checkup) -> list[str]:
    lines = [line for kind, message in _messages(found) for line in _wrapped(f"{kind}: {message}", "")]
    num = len(dict.fromkeys(found.problems))
    return [*lines, "can run" if num == 0 else f"cannot run: {num} problem{'s' if num > 1 else ''}, above"]


def _wrapped(text: str, heading: str, indent: int = 2) -> list[str]:
    """Return lines of at most the screen's width, the first after a heading, the others below its text."""
    first = f"{heading:{indent}}" if heading or indent > 2 else ""
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=" " * indent, drop_whitespace=True,
        break_long_words=False, break_on_hyphens=False,
    ) if "  " not in text else [first + text]  # fmt: skip


__all__ = ["format_pipeline", "format_stage"]

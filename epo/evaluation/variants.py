"""What a row of the report changes about the test: whose clip, which half of it, whose memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from epo.data.dialogue import Clip
from epo.training.examples import Example

Variant = Callable[[Sequence[Example], int], list[Example]]


def unchanged(examples: Sequence[Example], seed: int) -> list[Example]:
    """Every dialogue with its own clip and memory."""
    return list(examples)


def clips_shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Every dialogue with the clip of another one; the words stay."""
    others = _others(len(examples), seed)
    return [_with_clip(example, examples[i].current.clip) for example, i in zip(examples, others, strict=True)]


def audio_only(examples: Sequence[Example], seed: int) -> list[Example]:
    """Clips without their video."""
    return [_with_clip(example, _half(example.current.clip, video=False)) for example in examples]


def video_only(examples: Sequence[Example], seed: int) -> list[Example]:
    """Clips without their audio."""
    return [_with_clip(example, _half(example.current.clip, video=True)) for example in examples]


def no_clip(examples: Sequence[Example], seed: int) -> list[Example]:
    """Only the words of the current turn."""
    return [_with_clip(example, None) for example in examples]


def memory_shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Every dialogue with the history of another one; clip and words stay."""
    others = _others(len(examples), seed)
    return [replace(example, history=examples[i].history) for example, i in zip(examples, others, strict=True)]


def _with_clip(example: Example, clip: Clip | None) -> Example:
    return replace(example, current=replace(example.current, clip=clip))


def _half(clip: Clip | None, video: bool) -> Clip | None:
    if clip is None or (clip.video if video else clip.audio) is None:
        return None
    return replace(clip, audio=None) if video else replace(clip, video=None)


def _others(count: int, seed: int) -> list[int]:
    """Return a seeded permutation without fixed points: neighbours on one random cycle."""
    cycle = np.random.default_rng(seed).permutation(count)
    others = np.empty(count, dtype=int)
    others[cycle] = np.roll(cycle, 1)
    return others.tolist()

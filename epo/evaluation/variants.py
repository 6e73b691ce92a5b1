"""What a row of the report changes about the test: whose clip, which half of it, whose memory."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from epo.data.dialogue import Clip
from epo.data.replies import Reply

Variant = Callable[[Sequence[Reply], int], list[Reply]]


def unchanged(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Every dialogue with its own clip and memory."""
    return list(examples)


def clips_shuffled(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Every dialogue with the clip of another one; the words stay."""
    others = _others(examples, seed)
    return [_with_clip(example, examples[i].current.clip) for example, i in zip(examples, others, strict=True)]


def audio_only(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Clips without their video."""
    return [_with_clip(example, _half(example.current.clip, video=False)) for example in examples]


def video_only(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Clips without their audio."""
    return [_with_clip(example, _half(example.current.clip, video=True)) for example in examples]


def no_clip(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Only the words of the current turn."""
    return [_with_clip(example, None) for example in examples]


def memory_shuffled(examples: Sequence[Reply], seed: int) -> list[Reply]:
    """Every dialogue with the history of another one; clip and words stay."""
    others = _others(examples, seed)
    return [replace(example, history=examples[i].history) for example, i in zip(examples, others, strict=True)]


def _with_clip(example: Reply, clip: Clip | None) -> Reply:
    return replace(example, current=replace(example.current, clip=clip))


def _half(clip: Clip | None, video: bool) -> Clip | None:
    if clip is None or (clip.video if video else clip.audio) is None:
        return None
    return replace(clip, audio=None) if video else replace(clip, video=None)


CHANGES: dict[str, Variant] = {
    "clips shuffled": clips_shuffled,
    "audio only": audio_only,
    "video only": video_only,
    "no clip": no_clip,
    "memory shuffled": memory_shuffled,
}
"""The changes to the test, by what a row calls them."""

# One shuffle of 200 clips leaves a standard error of 0.035 around chance; five leave less.
NUM_DRAWS = {"clips shuffled": 5}


def can_vary(variant: Variant, examples: Sequence[Reply]) -> bool:
    """Tell whether a variant can be made of these replies: what is shuffled between dialogues takes two of them."""
    return variant not in (clips_shuffled, memory_shuffled) or len({e.dialogue_id for e in examples}) > 1


def same_as(variant: Variant, examples: Sequence[Reply], seed: int) -> str | None:
    """Return which test a variant repeats, None where it is one of its own.

    Without pictures, "audio only" is the test as it is, and "video only" is "no clip"; without histories there is none
    to shuffle.
    """
    if variant is unchanged:
        return None
    changed = variant(examples, seed)
    if changed == list(examples):
        return "the test as it is"
    if variant in (audio_only, video_only) and changed == no_clip(examples, seed):
        return "no clip"
    return None


def _others(examples: Sequence[Reply], seed: int) -> list[int]:
    """Return, for each example, the place of one of another dialogue, at random.

    It is a permutation, so each is used once; only where one dialogue has more than half of the examples there is
    none, and each draws from the other dialogues.

    Raises:
        ValueError: there is only one dialogue.
    """
    ids = [example.dialogue_id for example in examples]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(ids)).tolist()
    group_of = {name: place for place, name in enumerate(dict.fromkeys(ids[i] for i in order))}
    if len(group_of) < 2:
        raise ValueError("shuffling between dialogues takes two of them")
    largest = max(Counter(ids).values())
    if 2 * largest > len(ids):
        return [int(rng.choice([j for j in order if ids[j] != name])) for name in ids]
    # Dialogue by dialogue, each example gets what lies the largest dialogue's length before it: never its own's.
    order.sort(key=lambda i: group_of[ids[i]])
    others = np.empty(len(ids), dtype=int)
    others[order] = np.roll(order, largest)
    return others.tolist()

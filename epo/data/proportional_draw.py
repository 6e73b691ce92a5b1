"""Proportional draw: a seeded part of each split, in proportion, by dialogue id, whatever the order."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from epo.data.splits import place_of

Item = TypeVar("Item")


def share_out_most(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """Return how many of each split stay where at most `most` may: in proportion, to the nearest whole numbers.

    A split that has any keeps one, as long as `most` suffices for that. Largest remainders (Hamilton); of equal ones
    the first; our choice.

    Args:
        sizes: how many each split has.
        most: of all together.
    """
    total = sum(sizes.values())
    if most >= total:
        return dict(sizes)
    wanted = {split: size * most / total for split, size in sizes.items()}
    kept = {split: int(share) for split, share in wanted.items()}
    by_remainder = sorted(sizes, key=lambda split: kept[split] - wanted[split])
    for split in by_remainder[: most - sum(kept.values())]:
        kept[split] += 1
    for split, size in sizes.items():
        largest = max(kept, key=lambda other: kept[other])
        if size and not kept[split] and kept[largest] > 1:
            kept[split], kept[largest] = 1, kept[largest] - 1
    return kept


def draw_by_dialogue(items: Sequence[Item], dialogue_id: Callable[[Item], str], count: int, seed: int) -> list[Item]:
    """Return `count` of the items, in their own order: those of the dialogues that a hash of their ids puts first.

    Which dialogues come first hangs on the ids and the seed alone. Items of one dialogue stay together, but for the
    last dialogue drawn, of which the first items are taken.

    Args:
        items: any, those of a dialogue in their order.
        dialogue_id: tells whose an item is.
        count: how many to take.
        seed: another one gives another draw.
    """
    names = [dialogue_id(item) for item in items]
    places = {name: (place_of(f"drawn:{name}", seed), name) for name in set(names)}
    first = sorted(range(len(items)), key=lambda index: (*places[names[index]], index))[:count]
    return [items[index] for index in sorted(first)]


__all__ = ["draw_by_dialogue", "share_out_most"]

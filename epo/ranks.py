"""The processes of a job, where there are several: which one this is, and work dealt out between them."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Said = TypeVar("Said")


def rank() -> int:
    """Return this process's place among those that talk to each other, 0 where it is alone."""
    return _group()[0]


def share(items: Sequence[Any]) -> list[Any]:
    """Return this rank's part of the items: every n-th one."""
    mine, count = _group()
    return list(items[mine::count])


def gather_shares(mine: list[Any]) -> list[Any]:
    """Return all ranks' parts in the order `share` took them from. Every rank must call it."""
    count = _group()[1]
    if count == 1:
        return mine
    import torch.distributed as dist

    parts: list[list[Any]] = [[] for _ in range(count)]
    dist.all_gather_object(parts, mine)
    longest = max(len(part) for part in parts)
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


def even_batches(items: list[Any], size: int) -> Iterator[tuple[list[Any], bool]]:
    """Yield batches of this rank's share, as many as on every other rank, and whether they are its own to do.

    Where its share has run out it is given the first item again: sharded weights are gathered by all ranks together.
    """
    mine = share(items)
    for number in range(math.ceil(math.ceil(len(items) / num_ranks()) / size)):
        batch = mine[number * size : (number + 1) * size]
        yield (batch, True) if batch else (items[:1], False)


def of_first(make: Callable[[], Said]) -> Said:
    """Return what the first rank makes, on all of them; an error of its is raised on all. Every rank must call it."""
    mine, count = _group()
    if count == 1:
        return make()
    import torch.distributed as dist

    made: list[Any] = [None, None]
    if mine == 0:
        try:
            made[0] = make()
        except Exception as error:  # told to the others, which would wait for it
            made[1] = error
    dist.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise made[1]
    said: Said = made[0]
    return said


def num_ranks() -> int:
    """Return how many processes talk to each other."""
    return _group()[1]


def _group() -> tuple[int, int]:
    """Return rank and number of ranks; a process that has not joined a group is alone."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


__all__ = ["even_batches", "gather_shares", "num_ranks", "of_first", "rank", "share"]

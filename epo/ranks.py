"""The processes of a job, where there are several: which one this is, and work dealt out between them."""

from collections.abc import Callable, Sequence
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


def first_says(make: Callable[[], Said]) -> Said:
    """Return what a function returns on the first rank, which alone calls it. Every rank must call this."""
    mine, count = _group()
    if count == 1:
        return make()
    import torch.distributed as dist

    said: list[Any] = [make() if mine == 0 else None]
    dist.broadcast_object_list(said, src=0)
    found: Said = said[0]
    return found


def _group() -> tuple[int, int]:
    """Return rank and number of ranks; a process that has not joined a group is alone."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


__all__ = ["first_says", "gather_shares", "rank", "share"]

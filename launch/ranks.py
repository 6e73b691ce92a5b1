"""Sharing out work between the processes of a job that has no trainer to do so."""

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from launch import stage


def join_ranks() -> torch.device:
    """Let the job's processes talk, for a stage without a trainer, and return this one's device."""
    if stage.num_ranks() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def share(items: Sequence[Any]) -> list[Any]:
    """Return this rank's part of the items: every n-th one."""
    return list(items[stage.rank() :: stage.num_ranks()])


def gather_shares(mine: list[Any]) -> list[Any]:
    """Return all ranks' parts in the order `share` took them from. Every rank must call it."""
    if stage.num_ranks() == 1:
        return mine
    parts: list[list[Any]] = [[] for _ in range(stage.num_ranks())]
    dist.all_gather_object(parts, mine)
    longest = max(len(part) for part in parts)
    return [part[i] for i in range(longest) for part in parts if i < len(part)]

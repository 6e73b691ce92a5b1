"""Joining the processes of a job, and sharing decisions between them."""

import datetime
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from launch.processes.ends import GRACE_S, MISTAKE, explain, leave
from launch.stage import num_ranks, rank

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

_PATIENCE = datetime.timedelta(hours=12)  # rank 0 may have terabytes to read before it decides


def join_ranks() -> "torch.device":
    """Let the job's processes talk, for a stage without a trainer, and return this one's device."""
    import torch
    import torch.distributed as dist

    if num_ranks() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def from_rank_0(decide: Callable[[], Result]) -> Result:
    """Return on every rank what rank 0 decides; a mistake it finds is raised there and ends the others in silence.

    Every rank must call it, after the ranks were joined.
    """
    if num_ranks() == 1:
        return decide()
    import torch.distributed as dist

    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    box: list[Any] = [None, None]
    error: Exception | None = None
    if rank() == 0:
        try:
            box[0] = decide()
        except Exception as caught:
            error = caught
            box[1] = explain(caught) or repr(caught)
    dist.broadcast_object_list(box, src=0, group=group)
    if error is not None:
        raise error
    if box[1] is not None:
        time.sleep(GRACE_S)  # rank 0 says it; the launcher ends the others
        leave(MISTAKE)
    decided: Result = box[0]
    return decided

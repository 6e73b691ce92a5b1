"""What all ranks of ZeRO wrote of a checkpoint, by weight: masters, optimizer states, and what was not trained."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from compressor.checkpoints.checkpoint_commit import CheckpointError
from compressor.checkpoints.deepspeed_states import read_mapped
from compressor.checkpoints.shards import Buffer, Held, spread, whole_buffer

ANEW = "go on as it was, or give --fresh to start anew"
_SETTINGS = ("loss_scaler", "dynamic_loss_scale", "overflow")  # of ZeRO's optimizer, the same on every rank


def sizes_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return how many numbers each weight has."""
    return {name: math.prod(shape) for name, shape in shapes.items()}


class SavedShards:
    """The files of a checkpoint, mapped into memory rather than read.

    Attributes:
        shapes: of each weight that was trained.
        settings: what a state of ZeRO's optimizer says beside tensors.
        param_groups: the optimizer's, without their weights.
        group_of: by weight, to which of them it belongs.
        counts: optimizer steps, samples, and steps that were skipped.
    """

    def __init__(self, checkpoint: Path, num_ranks: int) -> None:
        """Open the files.

        Args:
            checkpoint: as the trainer wrote it.
            num_ranks: that wrote it.

        Raises:
            CheckpointError: a rank's file is missing, names foreign code, or lays the states out in an unknown way.
        """
        self._checkpoint, self._num_ranks = checkpoint, num_ranks
        folder = checkpoint / (checkpoint / "latest").read_text(encoding="utf-8").strip()
        files = [_mapped(folder, f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt") for rank in range(num_ranks)]
        self._parts: list[dict[str, Any]] = [file["optimizer_state_dict"] for file in files]
        first = self._parts[0]
        self._stage = int(first.get("zero_stage", 0))
        self._inner = "optimizer_state_dict" if self._stage == 3 else "base_optimizer_state"
        self._require({"zero_stage", *_SETTINGS} <= first.keys() and isinstance(first.get(self._inner), dict))
        self._require(not any(map(any, first.get("param_alignment_paddings") or ())))
        self.settings = {key: first[key] for key in _SETTINGS} | {"ds_version": files[0]["ds_version"]}

        name = "zero_pp_rank_{}_mp_rank_00_model_states.pt" if self._stage == 3 else "mp_rank_00_model_states.pt"
        self._models = [_mapped(folder, name.format(rank)) for rank in range(num_ranks if self._stage == 3 else 1)]
        model = self._models[0]
        self.counts = model["global_steps"], model["global_samples"], model["skipped_steps"]
        self.shapes = {name: tuple(shape) for shapes in model["param_shapes"] for name, shape in shapes.items()}

        flats = [sizes_of(shapes) for shapes in model["param_shapes"]]  # of each flat buffer, in its order
        self._buffers = [[spread(self._stage, sizes, rank, num_ranks) for sizes in flats] for rank in range(num_ranks)]
        groups = first[self._inner]["param_groups"]
        self._flats_of = [group["params"] for group in groups]
        self._require([flat for ids in self._flats_of for flat in ids] == list(range(len(flats))))
        self.param_groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        self.group_of = {
            name: group for group, ids in enumerate(self._flats_of) for flat in ids for name in flats[flat]
        }

    def masters(self) -> Held:
        """Return the trained weights as the optimizer keeps them, in float32.

        Raises:
            CheckpointError: they lie otherwise than DeepSpeed's documented layouts say.
        """
        key = "fp32_flat_groups" if self._stage == 3 else "single_partition_of_fp32_groups"
        flats = range(len(self._buffers[0]))
        return self._held((rank, flat, part[key][flat]) for rank, part in enumerate(self._parts) for flat in flats)

    def states(self, group: int) -> tuple[dict[str, Any], dict[str, Held]]:
        """Return the optimizer's states of a parameter group.

        Returns:
            What all ranks have alike, such as the number of steps, and what has a number for each of a weight.

        Raises:
            CheckpointError: a state is neither.
        """
        flats = self._flats_of[group]
        states = [part[self._inner]["state"] for part in self._parts]
        first = states[0].get(flats[0], {})
        cut = [key for key, value in first.items() if isinstance(value, Tensor) and value.dim() > 0]
        held = {
            key: self._held((rank, flat, state[flat][key]) for rank, state in enumerate(states) for flat in flats)
            for key in cut
        }
        return {key: value for key, value in first.items() if key not in cut}, held

    def whole(self, name: str) -> Tensor | None:
        """Return a tensor of the model that every rank held whole; None where it was not saved."""
        found: Tensor | None = self._models[0]["module"].get(name)
        return found

    def frozen(self, name: str, size: int) -> Held | None:
        """Return a weight of `size` numbers that was not trained; None where it was not saved.

        Raises:
            CheckpointError: it had another size.
        """
        if self._stage == 3:
            parts = [(model["frozen_param_fragments"] or {}).get(name) for model in self._models]
            buffers = [spread(3, {name: size}, rank, self._num_ranks) for rank in range(self._num_ranks)]
        else:
            parts, buffers = [self.whole(name)], [whole_buffer(name, size)]
        found = [(buffer, part.flatten()) for buffer, part in zip(buffers, parts, strict=True) if part is not None]
        if len(found) < len(buffers):
            return None
        if any(part.numel() != buffer.length for buffer, part in found):
            raise CheckpointError(f"{self._checkpoint}: {name} has another size than in this run; {ANEW}")
        return Held(found)

    def _held(self, parts: Iterable[tuple[int, int, Tensor]]) -> Held:
        """Return numbers by their rank and flat buffer; their padding may have been left out."""
        found: list[tuple[Buffer, Tensor]] = []
        for rank, flat, numbers in parts:
            buffer = self._buffers[rank][flat]
            self._require(numbers.dim() == 1 and numbers.numel() in (buffer.length, buffer.used))
            found.append((buffer, numbers))
        return Held(found)

    def _require(self, is_known: bool) -> None:
        if not is_known:
            raise CheckpointError(
                f"{self._checkpoint}: DeepSpeed laid the optimizer's states out so that only as many ranks as wrote "
                "them can read them (an optimizer with other states than a number a weight, NVMe, "
                f"parameter_alignment); {ANEW}"
            )


def _mapped(folder: Path, pattern: str) -> dict[str, Any]:
    """Return what a file of DeepSpeed's holds; its tensors are read where they are used."""
    path = next(iter(folder.glob(pattern)), None)
    if path is None:
        raise CheckpointError(
            f"{folder}: {pattern.removeprefix('*')} is missing, a rank's part; delete this checkpoint to go on from "
            "the one before it, or give --fresh to start anew"
        )
    return read_mapped(path)

"""Going on from a checkpoint of ZeRO on another number of ranks, or in another stage of ZeRO.

Every rank maps the files of all the ranks that wrote it, cuts its own part of masters and optimizer states out of them,
and gives it to DeepSpeed as if it had been read from a file. The checkpoint stays as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.checkpoints.checkpoint_commit import CheckpointError, facts_of, raise_on_all
from compressor.checkpoints.saved_shards import ANEW, SavedShards, sizes_of
from compressor.checkpoints.shards import Held, spread, whole_buffer

RESHARDED = frozenset({"zero-1", "zero-2", "zero-3"})
"""Shardings, as a manifest names them, between which a checkpoint can be gone on from, on any number of ranks."""


def load_resharded_states() -> None:
    """Let DeepSpeed load checkpoints of another number of ranks or another stage of ZeRO, which it cannot by itself.

    A checkpoint's manifest decides; one that is spread as the run is, or has no manifest, is left to DeepSpeed.
    """
    import torch.distributed as dist
    from deepspeed import DeepSpeedEngine

    theirs = DeepSpeedEngine.load_checkpoint

    def load(self: Any, load_dir: str, *args: Any, **settings: Any) -> Any:
        was = facts_of(Path(load_dir))
        now = (dist.get_world_size(), f"zero-{int(self.zero_optimization_stage())}")
        if not was or (was["ranks"], was["sharding"]) == now:
            return theirs(self, load_dir, *args, **settings)
        load_resharded(self, Path(load_dir), was["ranks"])
        return load_dir, {}

    DeepSpeedEngine.load_checkpoint = load


def load_resharded(engine: Any, checkpoint: Path, num_ranks: int) -> None:
    """Put a checkpoint into a fresh engine of any number of ranks, in any stage of ZeRO. All ranks call it together.

    A rank holds the part of the optimizer's states that it will train on, that of the masters a second time until they
    are copied, and frozen weights one at a time. The files are mapped: what belongs to other ranks is not read.

    Args:
        engine: DeepSpeed's, with its optimizer.
        checkpoint: as the trainer wrote it.
        num_ranks: that wrote it.

    Raises:
        CheckpointError: on all ranks, what one of them finds missing, or otherwise than this run has it; the engine is
            as it was then.
    """
    error: BaseException | None = None
    try:
        saved = SavedShards(checkpoint, num_ranks)
        states = _states_of_rank(engine, saved, checkpoint)
        frozen = list(_frozen(engine, saved))
    except Exception as refused:  # whatever it is, no rank may wait for this one
        error = refused
    raise_on_all(error)

    optimizer, is_stage_3 = engine.optimizer, int(engine.zero_optimization_stage()) == 3
    if is_stage_3:
        optimizer.checkpoint_event_prologue()
    for name, weight, held in frozen:
        _put(engine, name, weight, held)
    for name, buffer in engine.module.named_buffers():
        kept = saved.whole(name)
        if kept is not None:
            buffer.data.copy_(kept)
    mine = [None] * engine.global_rank + [states]
    optimizer.load_state_dict(mine, load_optimizer_states=True, load_from_fp32_weights=True)
    if is_stage_3:
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()  # the weights themselves, from all ranks' masters
    engine.global_steps, engine.global_samples, engine.skipped_steps = saved.counts


def _states_of_rank(engine: Any, saved: SavedShards, checkpoint: Path) -> dict[str, Any]:
    """Return this rank's part as DeepSpeed's optimizer would have saved it."""
    optimizer, stage = engine.optimizer, int(engine.zero_optimization_stage())
    groups = engine._get_zero_param_shapes()  # of each flat buffer the weights' shapes, in the order they lie in
    group_of = [optimizer.sub_group_to_group_id[flat] if stage == 3 else flat for flat in range(len(groups))]
    _require_same_weights(optimizer, groups, group_of, saved, checkpoint)
    buffers = [spread(stage, sizes_of(group), engine.global_rank, engine.world_size) for group in groups]
    masters = "fp32_partitioned_groups_flat" if stage == 3 else "single_partition_of_fp32_groups"
    lengths = [flat.numel() for flat in getattr(optimizer, masters, ())]
    is_padded_within = any(map(any, getattr(optimizer, "round_robin_bit16_padding", ())))
    if is_padded_within or lengths != [buffer.length for buffer in buffers]:
        raise CheckpointError(
            f"{checkpoint}: was written on other ranks or in another stage of ZeRO, and its states cannot be cut as "
            f"DeepSpeed lays them out in this run (NVMe, parameter_alignment, another optimizer than ZeRO's); {ANEW}"
        )
    inner: dict[str, Any] = {"state": {}, "param_groups": [group | {"params": []} for group in saved.param_groups]}
    of_group = [saved.states(group) for group in range(len(saved.param_groups))]
    for flat, (buffer, group) in enumerate(zip(buffers, group_of, strict=True)):
        alike, cut = of_group[group]
        inner["param_groups"][group]["params"].append(flat)
        own = {key: value.clone() if hasattr(value, "clone") else value for key, value in alike.items()}
        inner["state"][flat] = own | {key: held.fill(buffer) for key, held in cut.items()}
    held = saved.masters()
    flats = [held.fill(buffer) for buffer in buffers]
    if stage == 3:
        return saved.settings | {"optimizer_state_dict": inner, "fp32_flat_groups": flats}
    return saved.settings | {"base_optimizer_state": inner, "single_partition_of_fp32_groups": flats}


def _require_same_weights(
    optimizer: Any,
    groups: Sequence[Mapping[str, Sequence[int]]],
    group_of: Sequence[int],
    saved: SavedShards,
    checkpoint: Path,
) -> None:
    """Refuse what trains other weights, in other groups, or by another optimizer."""
    shapes = {name: tuple(shape) for group in groups for name, shape in group.items()}
    odd = sorted(name for name in shapes.keys() | saved.shapes.keys() if shapes.get(name) != saved.shapes.get(name))
    if odd:
        raise CheckpointError(
            f"{checkpoint}: trained other weights than this run, or other shapes ({odd[0]}, {len(odd)} in all); {ANEW}"
        )
    now = {name: index for group, index in zip(groups, group_of, strict=True) for name in group}
    keys = [sorted(group.keys() - {"params"}) for group in optimizer.optimizer.param_groups]
    if now != saved.group_of or keys != [sorted(group) for group in saved.param_groups]:
        raise CheckpointError(
            f"{checkpoint}: its optimizer is another one than this run's or has other parameter groups (offloaded "
            f"states may have DeepSpeed's own Adam); {ANEW}"
        )


def _frozen(engine: Any, saved: SavedShards) -> Iterator[tuple[str, Any, Held]]:
    """Yield the weights that are not trained and were saved; what was not stays as the run has loaded it."""
    for name, weight in engine.module.named_parameters():
        if name not in saved.shapes:
            held = saved.frozen(name, getattr(weight, "ds_numel", weight.numel()))
            if held is not None:
                yield name, weight, held


def _put(engine: Any, name: str, weight: Any, held: Held) -> None:
    """Copy a frozen weight, or this rank's part of it, to where it belongs."""
    if hasattr(weight, "ds_tensor"):
        part = spread(3, {name: weight.ds_numel}, engine.global_rank, engine.world_size)
        weight.ds_tensor.data.copy_(held.fill(part))
    else:
        weight.data.copy_(held.fill(whole_buffer(name, weight.numel())).view(weight.shape))

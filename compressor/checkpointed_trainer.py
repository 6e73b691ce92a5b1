"""A transformers Trainer that writes checkpoints which are whole or none, with few pickles, and saves at a signal."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback

from compressor.checkpoints.checkpoint_commit import CheckpointError, Commit, facts_of, keep_newest, written_aside
from compressor.checkpoints.deepspeed_states import read_deepspeed_states_safely, zero_stage
from compressor.checkpoints.resharding import RESHARDED, load_resharded_states
from compressor.checkpoints.sharded_checkpoints import read_optimizer, read_weights, write_rows
from compressor.checkpoints.training_states import (
    StateError,
    kept_state,
    random_states,
    read_state,
    set_random_states,
    write_state,
)
from compressor.fully_sharded import full_state, shard
from compressor.seams import is_under_fsdp, keep_own_optimizer, put_off_compiling, sharded_by, use_fsdp
from compressor.stopping import StopOnSignal

_OPTIMIZER, _SCHEDULER = "optimizer.safetensors", "scheduler.safetensors"
_ANY_RANKS = {"none", "fsdp2"}
"""Ways of sharding whose checkpoints any number of ranks reads as they are."""


class RaisedByAllError(RuntimeError):
    """What ends training on every rank at one place, so that a save under way can still be finished together."""


class _FinishSave(TrainerCallback):
    """Lets a checkpoint count at the end of the step in which its last byte has reached the disk."""

    def __init__(self, finish_save: Callable[[bool], None]) -> None:
        self._finish_save = finish_save

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._finish_save(False)


class CheckpointedTrainer(Trainer):
    """Writes checkpoints through `compressor.checkpoints.checkpoint_commit`, and plain states as safetensors.

    A step's end waits until its files are written, not until they are on the disk and their digests are known: that is
    a thread's matter, and training goes on. With one rank the thread also writes the optimizer, from a copy. `train`
    returns, and the next save begins, once the checkpoint counts; a callback's `on_save` may come before it does.

    A checkpoint can be gone on from on any number of ranks: without sharding each held all of it, under FSDP2 its rows
    of each tensor (`compressor.checkpoints.sharded_checkpoints`), and what DeepSpeed's ZeRO spread is spread anew by
    `compressor.checkpoints.resharding`, also in another of its stages.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._aside: Path | None = None  # where a checkpoint is being written
        self._late: list[Callable[[], None]] = []  # writes what the thread is to write of it
        self._commit: Commit | None = None  # of the one that is written, and does not count yet
        super().__init__(*args, **kwargs)
        self.stopping = StopOnSignal()
        self.add_callback(self.stopping)
        self.add_callback(_FinishSave(self._finish_save))
        if self.is_deepspeed_enabled:
            read_deepspeed_states_safely()
            load_resharded_states()
            keep_own_optimizer(self)
            put_off_compiling()

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, for FSDP2 on CPUs too."""
        super().create_accelerator_and_postprocess()
        if is_under_fsdp():
            use_fsdp(self)

    def layers_to_gather(self) -> Sequence[nn.Module]:
        """Return what FSDP2 is to gather layer by layer; all else is gathered as one, as here everything is."""
        return ()

    def checkpoint_facts(self) -> dict[str, Any]:
        """Return what a checkpoint's manifest says about how it is spread: ranks, and what they hold each a part of."""
        return {
            "ranks": self.args.world_size,
            "sharding": "fsdp2" if self.is_fsdp_enabled else zero_stage(self),
            "is_weights_only": bool(self.args.save_only_model),
        }

    def require_resumable(self, checkpoint: Path) -> None:
        """Refuse a checkpoint that cannot be spread as this run is.

        Without sharding every rank holds everything, under FSDP2 its rows of each tensor, and the stages of ZeRO hold
        the same in other parts: ranks may be more or fewer. Each kind of these reads its own.

        Raises:
            CheckpointError: says how it is spread, and the remedy.
        """
        was, now = facts_of(checkpoint), self.checkpoint_facts()
        if not was:  # of an older version: the stage's folder knows its ranks
            return
        kinds = {was["sharding"], now["sharding"]}
        if len(kinds) == 1 and (was["ranks"] == now["ranks"] or kinds <= _ANY_RANKS):
            return
        if not kinds <= RESHARDED:
            raise CheckpointError(
                f"{checkpoint}: was written by {was['ranks']} ranks with sharding {was['sharding']}, and this run has "
                f"{now['ranks']} with {now['sharding']}; ZeRO's stage may change, and ranks with it, but not "
                "one of ZeRO, FSDP2 and none to another: go on as it was, or give --fresh to start anew"
            )

    def _get_output_dir(self, trial: Any) -> str:
        return str(super()._get_output_dir(trial) if self._aside is None else self._aside)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """Train, and wait for the checkpoint that was written last."""

        def spread(accelerator: Any, model: nn.Module) -> nn.Module:
            return shard(accelerator, model, self.layers_to_gather())

        try:
            with sharded_by(spread) if self.is_fsdp_enabled else contextlib.nullcontext():
                result = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except BaseException as error:
            # Otherwise other ranks may be anywhere; what they have on their disks is not known.
            if self.args.world_size == 1 or isinstance(error, RaisedByAllError):
                with contextlib.suppress(Exception):  # what ended training is what is told
                    self._finish_save(True)
            raise
        self._finish_save(True)
        return result

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside, and let it count once it is on the disk; older ones go only then."""
        self._finish_save(True)
        output_dir, step = Path(self.args.output_dir), self.state.global_step
        try:
            with written_aside(output_dir) as self._aside:
                super()._save_checkpoint(model, trial)
                if self.args.should_save:
                    # A pickle; recipe.yaml says the same.
                    (self._aside / f"checkpoint-{step}" / "training_args.bin").unlink(missing_ok=True)
        finally:
            self._aside, late, self._late = None, self._late, []
        self._commit = Commit(output_dir, step, self.checkpoint_facts(), late)

    def _finish_save(self, is_waited_for: bool) -> None:
        """Let a written checkpoint count, if it is on all ranks' disks or waited for. All ranks call it together."""
        if self._commit is None or not (is_waited_for or self._commit.is_ready()):
            return
        try:
            self._commit.finish()
        finally:
            self._commit = None
        keep_newest(Path(self.args.output_dir), self.args.save_total_limit)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write weights as transformers does, under FSDP2 gathered on rank 0; checkpoints hold each rank's own rows."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
        elif self._aside is None or self.args.save_only_model:
            self._save(output_dir, state_dict=full_state(self.model, is_adapter=hasattr(self.model, "get_base_model")))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write plain optimizers without pickle; DeepSpeed has formats of its own."""
        if self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        if self.is_fsdp_enabled:
            write_rows(Path(output_dir), self.model, self.optimizer)
            if self.args.should_save:
                write_state(Path(output_dir) / _SCHEDULER, self.lr_scheduler.state_dict())
            return
        if not self.args.should_save:
            return
        try:
            write = kept_state(Path(output_dir) / _OPTIMIZER, self.optimizer.state_dict())
            write_state(Path(output_dir) / _SCHEDULER, self.lr_scheduler.state_dict())
            if self.args.world_size == 1:
                self._late.append(write)
            else:
                write()
        except StateError:  # of a library: torch's format, which is read with weights_only
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            read_weights(Path(resume_from_checkpoint), self.model)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not (Path(checkpoint) / _SCHEDULER).is_file():
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if self.is_fsdp_enabled:
            read_optimizer(Path(checkpoint), self.model, self.optimizer)
            self.lr_scheduler.load_state_dict(read_state(Path(checkpoint) / _SCHEDULER))
            return
        self.optimizer.load_state_dict(read_state(Path(checkpoint) / _OPTIMIZER))
        self.lr_scheduler.load_state_dict(read_state(Path(checkpoint) / _SCHEDULER))

    def _save_rng_state(self, output_dir: str) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        write_state(Path(output_dir) / f"random_{self.args.process_index}.safetensors", random_states())

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore this rank's generators; a rank that the checkpoint did not have keeps those of its seed."""
        if checkpoint is None:
            return
        path = Path(checkpoint) / f"random_{self.args.process_index}.safetensors"
        if path.is_file():
            set_random_states(read_state(path))
        else:
            super()._load_rng_state(checkpoint)

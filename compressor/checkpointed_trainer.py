"""A transformers Trainer that writes checkpoints which are whole or none, with few pickles, and saves at a signal."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from compressor.checkpoint_commit import CheckpointError, Commit, facts_of, keep_newest, written_aside
from compressor.deepspeed_states import read_deepspeed_states_safely, zero_stage
from compressor.resharding import RESHARDED, load_resharded_states
from compressor.seams import keep_own_optimizer, put_off_compiling
from compressor.stopping import StopOnSignal
from compressor.training_states import StateError, kept_state, random_states, read_state, set_random_states, write_state

_OPTIMIZER, _SCHEDULER = "optimizer.safetensors", "scheduler.safetensors"


class RaisedByAllError(RuntimeError):
    """What ends training on every rank at one place, so that a save under way can still be finished together."""


class _FinishSave(TrainerCallback):
    """Lets a checkpoint count at the end of the step in which its last byte has reached the disk."""

    def __init__(self, finish_save: Callable[[bool], None]) -> None:
        self._finish_save = finish_save

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._finish_save(False)


class CheckpointedTrainer(Trainer):
    """Writes checkpoints through `compressor.checkpoint_commit`, and plain states as safetensors.

    A step's end waits until its files are written, not until they are on the disk and their digests are known: that is
    a thread's matter, and training goes on. With one rank the thread also writes the optimizer, from a copy. `train`
    returns, and the next save begins, once the checkpoint counts; a callback's `on_save` may come before it does.

    A checkpoint can be gone on from on any number of ranks: without sharding each held all of it, and what DeepSpeed's
    ZeRO spread is spread anew by `compressor.resharding`, also in another of its stages. FSDP has a format of its own.
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

    def checkpoint_facts(self) -> dict[str, Any]:
        """Return what a checkpoint's manifest says about how it is spread: ranks, and what they hold each a part of."""
        return {
            "ranks": self.args.world_size,
            "sharding": "fsdp" if self.is_fsdp_enabled else zero_stage(self),
            "is_weights_only": bool(self.args.save_only_model),
        }

    def require_resumable(self, checkpoint: Path) -> None:
        """Refuse a checkpoint that cannot be spread as this run is.

        Without sharding every rank holds everything, and the stages of ZeRO hold the same in other parts.

        Raises:
            CheckpointError: says how it is spread, and the remedy.
        """
        was, now = facts_of(checkpoint), self.checkpoint_facts()
        if not was:  # of an older version: the stage's folder knows its ranks
            return
        kinds = {was["sharding"], now["sharding"]}
        if len(kinds) == 1 and (was["ranks"] == now["ranks"] or kinds == {"none"}):
            return
        if not kinds <= RESHARDED:
            raise CheckpointError(
                f"{checkpoint}: was written by {was['ranks']} ranks with sharding {was['sharding']}, and this run has "
                f"{now['ranks']} with {now['sharding']}; ZeRO's stage may change, and ranks with it, but not "
                "from ZeRO to none or back: go on as it was, or give --fresh to start anew"
            )

    def _get_output_dir(self, trial: Any) -> str:
        return str(super()._get_output_dir(trial) if self._aside is None else self._aside)

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """Train, and wait for the checkpoint that was written last."""
        try:
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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write plain optimizers without pickle; DeepSpeed and FSDP have formats of their own."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not (Path(checkpoint) / _SCHEDULER).is_file():
            super()._load_optimizer_and_scheduler(checkpoint)
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

"""DeepSpeed's checkpoints: what they spread over the ranks, and reading them without executing what they name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.checkpoints.checkpoint_commit import CheckpointError

if TYPE_CHECKING:
    from transformers import Trainer


def zero_stage(trainer: "Trainer") -> str:
    """Return what DeepSpeed spreads over the ranks of a trainer, such as "zero-2"; "none" without it."""
    if not trainer.is_deepspeed_enabled:
        return "none"
    return f"zero-{trainer.accelerator.state.deepspeed_plugin.zero_stage}"


def read_deepspeed_states_safely() -> None:
    """Let DeepSpeed read its checkpoints, which are pickles, without executing what they name.

    It asks torch to unpickle anything; a variable of torch's forbids that in this whole process. Tensors, plain data
    and what `admit_deepspeeds_classes` names pass; a file that names anything else is refused.
    """
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    admit_deepspeeds_classes()
    theirs = TorchCheckpointEngine.load

    def load(self: Any, path: str, map_location: Any = None) -> Any:
        _refuse_foreign_code(path)
        return theirs(self, path, map_location)

    TorchCheckpointEngine.load = load


def admit_deepspeeds_classes() -> None:
    """Let torch read, with `weights_only`, the classes of DeepSpeed's of which a checkpoint keeps instances."""
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.serialization.add_safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address])


def read_mapped(path: Path) -> dict[str, Any]:
    """Return what a file of DeepSpeed's holds, executing nothing; its tensors are read where they are used.

    Raises:
        CheckpointError: it names more than tensors, plain data and what `admit_deepspeeds_classes` names.
    """
    import torch

    _refuse_foreign_code(str(path))
    found: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return found


def _refuse_foreign_code(path: str) -> None:
    """Refuse a file that names code, with the file, what it names, and the remedy."""
    import torch

    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if foreign:
        raise CheckpointError(
            f"{path}: names code that no checkpoint of DeepSpeed's needs ({', '.join(sorted(foreign))}), so it is "
            "not read; take an older checkpoint, or give --fresh to start anew"
        )

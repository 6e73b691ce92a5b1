"""Which fast kernels a stage would use, which it has, and which are missing on a machine where they would matter."""

import importlib.util
from collections.abc import Sequence

from launch.checkup.stage_models import Parts

_MAMBA = (("mamba_ssm", "mamba-ssm"), ("causal_conv1d", "causal-conv1d"))
_FLEX = "torch.nn.attention.flex_attention"


def kernel_lines(parts: Parts, is_cuda: bool) -> tuple[list[str], list[str]]:
    """Return what is live, and what is missing with its remedy.

    Args:
        parts: configurations of the stage's model.
        is_cuda: whether it will run on a GPU.
    """
    if not is_cuda:
        return ["none wanted: they are for GPUs"], []
    live, missing = [], []
    if parts.compressor is not None:
        found = [name for module, name in _MAMBA if _is_installed(module)]
        lacking = [name for module, name in _MAMBA if not _is_installed(module)]
        live += [f"{name} (compressor)" for name in found]
        if lacking:
            missing.append(
                f"{' and '.join(lacking)}: the compressor scans in plain PyTorch, slower and with more memory; "
                f"pip install {' '.join(lacking)} --no-build-isolation"
            )
    if parts.llm is not None:
        asked = getattr(parts.llm, "_attn_implementation", None) or "sdpa"
        live.append(f"attention {asked}: PyTorch's own flash and memory-efficient kernels")
        notes: Sequence[tuple[str, str]] = (("flash_attn", "flash-attention"), (_FLEX, "FlexAttention"))
        live += [
            f"{name} installed, used where a model's config asks" for module, name in notes if _is_installed(module)
        ]
    return live, missing


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


__all__ = ["kernel_lines"]

"""Which FSDP settings of the accelerate configuration do nothing here or were never tried, told before loading."""

import os

_WANTED = {
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("false", "parts are joined and measured whole, by each rank, before"),
    "FSDP_RESHARD_AFTER_FORWARD": ("true", "layers are given back after their forward pass"),
    "FSDP_OFFLOAD_PARAMS": ("false", "it was never tried; launch/accelerate/zero3-offload.yaml was"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false", "the recipe has gradient_checkpointing"),
    "FSDP_AUTO_WRAP_POLICY": ("NO_WRAP", "the family of a model says what its layers are"),
    "FSDP_IGNORED_MODULES": ("", "all of a model is spread"),
}
"""Names by which the launcher tells its ranks, what must be said there, and why."""


def wrong_fsdp() -> str | None:
    """Return what must be changed in FSDP's settings of this process, None where all is as it was tried."""
    if os.environ.get("FSDP_VERSION", "1") != "2":
        return "fsdp: only version 2 was tried; set fsdp_version: 2, as launch/accelerate/fsdp2.yaml has it"
    for name, (wanted, why) in _WANTED.items():
        said = os.environ.get(name, wanted)
        if said.lower() != wanted.lower():
            key = name.lower()
            remedy = f"set {key}: {wanted}" if wanted in ("true", "false") else f"leave {key} out"
            return f"fsdp: {key} is {said} in the accelerate configuration, but {why}; {remedy}"
    return None

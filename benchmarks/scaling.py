"""Prints the tables of docs/scaling.md: `python benchmarks/scaling.py`. Arithmetic alone, nothing is run."""

from dataclasses import replace

from epo.model.memory_estimate import Parameters, Sharding, held_in_training
from epo.model.scaling import Machine, bytes_sent, step_time

# Llama 3's 8B and 70B, and a LoRA of rank 16 on every linear layer.
MODELS = {
    "8B, all weights": Parameters(8_030_261_248, 0, 2, 2),
    "8B, LoRA": Parameters(41_943_040, 8_030_261_248, 2, 2),
    "70B, all weights": Parameters(70_553_706_496, 0, 2, 2),
    "70B, LoRA": Parameters(207_093_760, 70_553_706_496, 2, 2),
}
TABLES = {"8B": 2 * 128_256 * 4096, "70B": 2 * 128_256 * 8192}
"""Weights of embeddings and head, which FSDP2 holds whole during a step."""
DEVICES = (8, 64, 512)
TOKENS = 512 * 2048  # a global batch of 512 prompts


def rows() -> list[str]:
    """Return the table's lines, in Markdown: GB held, GB sent a step, seconds a step."""
    machine = Machine()
    lines = []
    for name, parameters in MODELS.items():
        for stage in (1, 2, 3, None):
            if stage is None:
                parameters = in_float32(parameters, TABLES[name.split(",")[0]])
            cells = []
            for devices in DEVICES:
                sharding = Sharding(devices, stage, is_cuda=True, is_fsdp=stage is None)
                held = held_in_training(parameters, sharding)
                total = held.weights + held.gradients + held.optimizer + held.buffers
                sent = bytes_sent(parameters, sharding)
                seconds = step_time(parameters, sharding, TOKENS, machine).total
                mark = "" if total < machine.memory_bytes else " no"
                cells.append(f"{total / 1e9:,.1f}{mark}, {sent / 1e9:,.1f}, {seconds:,.1f}")
            spread = "FSDP2" if stage is None else f"ZeRO-{stage}"
            lines.append(f"| {name} | {spread} | " + " | ".join(cells) + " |")
    return lines


def in_float32(parameters: Parameters, outside: int) -> Parameters:
    """Return the parameters as FSDP2 holds them: those that train in float32, and some outside of the layers whole.

    Args:
        parameters: in bfloat16.
        outside: how many weights lie outside of the layers.
    """
    rest = outside * (4 + 4 if parameters.frozen == 0 else 2)  # with their gradients where they train
    return replace(parameters, trained_bytes=4, rest=rest)


if __name__ == "__main__":
    print("\n".join(rows()))

"""On paper: what a device holds and sends in training, and how long a step takes, for a model on many devices.

Bytes held are `epo.model.memory_estimate`'s. Bytes sent are those of ring collectives, in which each of n devices sends
(n - 1) / n of a message for a gather or a reduce-scatter and twice that for an all-reduce (Rajbhandari et al. 2020,
arXiv 1910.02054, section 7). Time is arithmetic plus whatever communication does not overlap with it: our choice, with
its assumptions in `Machine`.
"""

from dataclasses import dataclass

from epo.model.memory_estimate import Parameters, Sharding


@dataclass(frozen=True)
class Machine:
    """What a device and its links are taken for; the defaults are an H100's data sheet and a 400 Gbit/s port a device.

    Attributes:
        devices_per_node: that share the fast link.
        memory_bytes: of a device.
        flops_per_s: of matrix products in bfloat16.
        utilisation: share of them that training reaches.
        node_bytes_per_s: one way, a device, inside a node.
        network_bytes_per_s: one way, a device, between nodes.
        overlap: share of communication that is hidden behind arithmetic.
    """

    devices_per_node: int = 8
    memory_bytes: int = 80 * 10**9
    flops_per_s: float = 989e12
    utilisation: float = 0.4
    node_bytes_per_s: float = 450e9
    network_bytes_per_s: float = 50e9
    overlap: float = 0.5


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step, and what they consist of.

    Attributes:
        arithmetic: forward, backward and, with recomputation, the second forward.
        communication: of one device, if nothing else went on.
        total: of both, as far as they do not overlap.
    """

    arithmetic: float
    communication: float
    total: float


def bytes_sent(parameters: Parameters, sharding: Sharding, accumulation: int = 1) -> int:
    """Return what one device sends in one optimizer step; it receives as much.

    Without DeepSpeed gradients are all-reduced once. Stage 1 reduce-scatters them once and gathers the new weights;
    stage 2 reduce-scatters them after each micro-batch; stage 3 also gathers all weights, trained or not, for each
    forward and each backward pass, and none after the step. FSDP2 is taken for stage 3, though it gathers what lies
    outside of layers only once a micro-batch.

    Args:
        parameters: of the model.
        sharding: over devices.
        accumulation: micro-batches a device and step.
    """
    ranks, stage = sharding.num_ranks, sharding.zero_stage
    gradients = parameters.trained * parameters.trained_bytes
    weights = gradients + parameters.frozen * parameters.frozen_bytes
    if sharding.is_fsdp:
        messages = accumulation * (2 * weights + gradients)
    elif stage is None or stage == 0:
        messages = 2 * gradients
    elif stage == 1:
        messages = gradients + gradients  # the trained weights have as many bytes as their gradients
    elif stage == 2:
        messages = accumulation * gradients + gradients
    else:
        messages = accumulation * (2 * weights + gradients)
    return messages * (ranks - 1) // ranks


def step_time(
    parameters: Parameters,
    sharding: Sharding,
    tokens: int,
    machine: Machine,
    accumulation: int = 1,
    recomputes: bool = True,
) -> StepTime:
    """Return how long one optimizer step takes.

    A token costs 2 operations a weight forward and 2 a weight backward for the activations' gradients; a weight that
    trains 2 more for its own; recomputation another forward pass. Attention's quadratic part is left out.

    Args:
        parameters: of the model.
        sharding: over devices.
        tokens: of one step, on all devices together.
        machine: that it runs on.
        accumulation: micro-batches a device and step.
        recomputes: whether activations are recomputed (gradient checkpointing).
    """
    every, trained = parameters.trained + parameters.frozen, parameters.trained
    operations = tokens * (2 * every * (3 if recomputes else 2) + 2 * trained)
    arithmetic = operations / (sharding.num_ranks * machine.flops_per_s * machine.utilisation)
    is_inside = sharding.num_ranks <= machine.devices_per_node
    rate = machine.node_bytes_per_s if is_inside else machine.network_bytes_per_s
    communication = bytes_sent(parameters, sharding, accumulation) / rate
    hidden = min(machine.overlap * communication, arithmetic)
    return StepTime(arithmetic, communication, arithmetic + communication - hidden)


__all__ = ["Machine", "StepTime", "bytes_sent", "step_time"]

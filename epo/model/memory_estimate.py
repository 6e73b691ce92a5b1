"""The arithmetic of memory: what a rank holds of weights, gradients and optimizer state, and what that adds up to.

A stage's memory on one device is

    weights + optimizer state + the larger of (activations and gradients at their fullest, gradients alone)

Weights, gradients and AdamW's state follow from the parameters and from how they are spread (Rajbhandari et al. 2020,
arXiv 1910.02054, section 3): a weight that trains in float32 takes 4 bytes, its gradient 4 and its two moments 8; under
DeepSpeed there is a float32 copy of it besides, whatever it is computed in, and stage 1 spreads copy and moments over
the ranks, stage 2 the gradients too, stage 3 the weights too. FSDP2 spreads all of them without such a copy, and during
a step gathers whatever lies outside of the language model's layers. Activations come from `epo.model.live_memory`.

Left out, as they are the same for any model: Python, torch and CUDA themselves, the allocator's slack (some percent),
and the buffers of NCCL and gloo.
"""

from dataclasses import dataclass

BUCKET_ELEMENTS = 500_000_000
"""Gradients that DeepSpeed collects before it reduces them, unless `reduce_bucket_size` says otherwise."""

_FLOAT32, _MOMENTS = 4, 8


@dataclass(frozen=True)
class Sharding:
    """How a stage is spread.

    Attributes:
        num_ranks: processes, one a device.
        zero_stage: of DeepSpeed, 0 to 3; None without DeepSpeed.
        is_cuda: whether buffers take memory as soon as they are made; on a CPU only what is written does.
        is_fsdp: whether FSDP2 spreads weights, gradients and moments.
    """

    num_ranks: int = 1
    zero_stage: int | None = None
    is_cuda: bool = False
    is_fsdp: bool = False


@dataclass(frozen=True)
class Parameters:
    """How many parameters there are, and the bytes one takes while a model computes with it.

    Attributes:
        trained: that train.
        frozen: that do not.
        trained_bytes: of one that trains: 4, and 2 where DeepSpeed holds the model in bfloat16.
        frozen_bytes: of one that does not: 4 or 2.
        beside: bytes of models beside the one that trains, which are never spread: a frozen language model.
        rest: bytes of weights outside of the language model's layers, and of the gradients of those that train.
    """

    trained: int
    frozen: int = 0
    trained_bytes: int = _FLOAT32
    frozen_bytes: int = _FLOAT32
    beside: int = 0
    rest: int = 0


@dataclass(frozen=True)
class Held:
    """What a rank holds of a model, in bytes.

    Attributes:
        weights: what is computed with.
        gradients: of a whole backward pass.
        optimizer: AdamW's two moments, and the float32 copy that DeepSpeed keeps.
        buffers: what gradients pass through on their way to other ranks, and what FSDP2 gathers for a whole step.
    """

    weights: int
    gradients: int = 0
    optimizer: int = 0
    buffers: int = 0


def held_in_training(parameters: Parameters, sharding: Sharding) -> Held:
    """Return what a rank holds of a model that is trained with AdamW.

    Args:
        parameters: of the model.
        sharding: how it is spread.
    """
    trained, ranks, stage = parameters.trained, sharding.num_ranks, sharding.zero_stage
    weights = trained * parameters.trained_bytes + parameters.frozen * parameters.frozen_bytes
    gradients = trained * parameters.trained_bytes
    if sharding.is_fsdp:
        share = -(-trained // ranks)
        spread = -(-weights // ranks) + parameters.beside
        return Held(spread, share * parameters.trained_bytes, _MOMENTS * share, parameters.rest)
    if stage is None or stage == 0:
        copies = gradients if ranks > 1 else 0  # DistributedDataParallel reduces copies of them, in buckets
        return Held(weights + parameters.beside, gradients, _MOMENTS * trained, copies)
    share = -(-trained // ranks)
    bucket = BUCKET_ELEMENTS if sharding.is_cuda else min(trained, BUCKET_ELEMENTS)
    return Held(
        weights=(weights if stage < 3 else -(-weights // ranks)) + parameters.beside,
        gradients=gradients if stage < 2 else share * parameters.trained_bytes,
        optimizer=(_FLOAT32 + _MOMENTS) * share,
        buffers=bucket * parameters.trained_bytes,
    )


def peak_memory(held: Held, forward: int, step: int, whole_gradients: int, accumulates: bool) -> int:
    """Return the bytes a rank holds at its fullest.

    Args:
        held: of `held_in_training`.
        forward: bytes a micro-batch holds until its loss is known.
        step: the same with its backward pass, whose gradients are all in it.
        whole_gradients: bytes of all gradients, unspread.
        accumulates: whether gradients of earlier micro-batches are there meanwhile.
    """
    spread = whole_gradients - held.gradients  # appears on other ranks
    during = max(forward, step - spread) + (held.gradients if accumulates else 0)
    return held.weights + held.optimizer + held.buffers + max(during, held.gradients)


def grown(shallow: int, deeper: int, from_layers: int, to_layers: int, layers: int) -> int:
    """Return what grows with each layer of a stack, told from two stacks that are less deep.

    Args:
        shallow: of a stack of `from_layers`.
        deeper: of one of `to_layers`.
        from_layers: layers of the first.
        to_layers: layers of the second.
        layers: of the stack that is asked for.
    """
    return round(shallow + (deeper - shallow) * (layers - from_layers) / (to_layers - from_layers))


__all__ = ["BUCKET_ELEMENTS", "Held", "Parameters", "Sharding", "grown", "held_in_training", "peak_memory"]

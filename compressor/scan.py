"""Mamba-2's scan and convolution in plain PyTorch: the numbers of transformers' own reference in half the time."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_ACTIVATIONS = {"silu": functional.silu, "swish": functional.silu}


def causal_convolution(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, **kwargs: Any
) -> Tensor:
    """Convolve each channel with the few positions up to its own: a handful of shifted products.

    Args:
        hidden_states: (b, channels, T).
        weight: (channels, K), the last column that of the position itself.
        bias: (channels,).
        activation: "silu" or "swish", which are the same and all that the CUDA kernel knows, or None.
        kwargs: ignored; what the CUDA kernel takes besides.

    Returns:
        (b, channels, T).
    """
    length, reach = hidden_states.size(-1), weight.size(-1)
    padded = functional.pad(hidden_states.transpose(1, 2).to(weight.dtype), (0, 0, reach - 1, 0))
    output = weight.new_zeros(weight.size(0)) if bias is None else bias
    for shift in range(reach):
        output = torch.addcmul(output, padded[:, shift : shift + length], weight[:, shift])
    if activation is not None:
        output = _ACTIVATIONS[activation](output)
    return output.transpose(1, 2).to(hidden_states.dtype)


def chunk_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
    **kwargs: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the state-space recurrence over a sequence, chunk by chunk (arXiv 2405.21060, section 6).

    Names and order of arguments are those of mamba-ssm's `mamba_chunk_scan_combined`. transformers' reference writes B
    and C out for every head; here all heads of a group share one product of them, and chunks hand on their state.

    Args:
        hidden_states: (b, T, H, P), what enters the state.
        dt: (b, T, H), step sizes before bias and softplus.
        A: (H,), negative decay rates.
        B: (b, T, G, N), how the state takes in; G groups of heads share it.
        C: (b, T, G, N), how the state is read.
        chunk_size: positions worked on together; the result does not depend on it.
        D: (H,), what goes past the state.
        dt_bias: (H,).
        initial_states: (b, H, P, N), the state to go on from; None for zero.
        dt_softplus: whether dt goes through softplus.
        dt_limit: least and largest step size.
        return_final_states: also return the state after the last position.
        kwargs: ignored; what the CUDA kernel takes besides.

    Returns:
        float32 (b, T, H, P), and with `return_final_states` the state, (b, H, P, N).
    """
    batch, length, heads, width = hidden_states.shape
    groups, size = B.shape[2:]
    dt = dt if dt_bias is None else dt + dt_bias.to(dt.dtype)
    dt = (functional.softplus(dt) if dt_softplus else dt).clamp(*dt_limit).float()
    steps = -(-length // chunk_size)

    def chunked(tensor: Tensor, *sizes: int) -> Tensor:
        """Pad with zeros, which leave the state alone, and cut into chunks: (b * chunks, chunk, ...)."""
        tensor = functional.pad(tensor.float().flatten(2), (0, 0, 0, steps * chunk_size - length))
        return tensor.reshape(batch * steps, chunk_size, *sizes)

    taken = chunked(hidden_states.float() * dt.unsqueeze(-1), heads, width)
    B, C = chunked(B, groups, size).transpose(1, 2), chunked(C, groups, size).transpose(1, 2)
    decay = (chunked(dt, heads) * A.float()).cumsum(dim=1)  # logarithm of what is left of a chunk's beginning

    # Within a chunk: position t reads what position s took in, weakened on the way.
    by_head = decay.transpose(1, 2)
    future = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=decay.device).triu(1)
    left = (by_head.unsqueeze(-1) - by_head.unsqueeze(-2)).masked_fill(future, -torch.inf).exp()
    scores = left.unflatten(1, (groups, -1)) * (C @ B.transpose(2, 3)).unsqueeze(2)
    inside = (scores.flatten(1, 2) @ taken.transpose(1, 2)).transpose(1, 2)

    # From chunk to chunk: what each adds to the state, and the state each begins with.
    kept = taken * (decay[:, -1:] - decay).exp().unsqueeze(-1)
    added = B.transpose(2, 3) @ _by_group(kept, groups)
    added = added.view(batch, steps, groups, size, -1, width)
    fades = decay[:, -1].exp().view(batch, steps, groups, 1, -1, 1)
    state = added.new_zeros(added[:, 0].shape)
    if initial_states is not None:
        state = initial_states.to(added).unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3)
    states = []
    for fade, new in zip(fades.unbind(1), added.unbind(1), strict=True):
        states.append(state)
        state = state * fade + new
    before = torch.stack(states, dim=1).view(batch * steps, groups, size, -1)
    carried = (C @ before).transpose(1, 2).reshape(taken.shape) * decay.exp().unsqueeze(-1)

    output: Tensor = (inside + carried).reshape(batch, -1, heads, width)[:, :length]
    if D is not None:
        output = output + D.unsqueeze(-1) * hidden_states
    if not return_final_states:
        return output
    return output, state.permute(0, 1, 3, 4, 2).flatten(1, 2)


def _by_group(tensor: Tensor, groups: int) -> Tensor:
    """Bring (n, chunk, H, P) to (n, G, chunk, H / G * P)."""
    grouped: Tensor = tensor.unflatten(2, (groups, -1)).flatten(3).transpose(1, 2)
    return grouped

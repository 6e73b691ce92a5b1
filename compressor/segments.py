"""Segments: a long history read piece by piece, the state carried over; gradients end where a piece begins."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from compressor.seams import read_on
from compressor.text import CompressorDataError


def carries_state(config: Any) -> bool:
    """Tell whether a compressor of this configuration can be read in segments: a MambaCompressor over Mamba-2 can.

    transformers' Mamba-1 begins at a zero state wherever more than one position is given to it.
    """
    return bool(config.model_type == "mamba_compressor" and config.backbone_config.model_type == "mamba2")


def require_segments(config: Any, num_tokens: int) -> None:
    """Refuse to cut back-propagation where it cannot be.

    Args:
        config: of the compressor.
        num_tokens: positions of a segment.

    Raises:
        CompressorDataError: it carries no state from segment to segment, or a segment holds less than two positions.
    """
    if not carries_state(config):
        raise CompressorDataError(
            f"backprop_tokens: a {config.model_type} over {config.backbone_config.model_type!r} carries no state from "
            "segment to segment; leave it out, or take kind mamba over 'mamba2'"
        )
    if num_tokens < 2:
        raise CompressorDataError(f"backprop_tokens is {num_tokens}, want 2 or more")


def read_segments(compressor: Any, input_ids: Tensor, num_tokens: int) -> Tensor:
    """Return the states of all positions, (B, T) int64 to (B, T, width), in memory that grows by the result alone.

    Up to rounding the numbers are those of one pass, wherever it is cut. Where gradients are wanted they are those of
    truncated back-propagation through time: none goes from a segment to the one before. Each segment is read again when
    its gradient comes, so that the inner states of one alone are held. Source: Williams and Peng 1990, doi
    10.1162/neco.1990.2.4.490; that segments do not overlap, and are read twice, is our choice.

    Args:
        compressor: for which `carries_state` holds.
        input_ids: histories, right-padded.
        num_tokens: positions of a segment; one that would be left alone at the end joins the last.

    Raises:
        CompressorDataError: gradient checkpointing is on, under which the state would not be carried over.
    """
    learns = torch.is_grad_enabled()
    if learns and compressor.backbone.training and getattr(compressor.backbone, "gradient_checkpointing", False):
        raise CompressorDataError(
            "backprop_tokens and gradient_checkpointing: the second loses the state between segments, each of which is "
            "read again by itself anyway; leave gradient_checkpointing out"
        )
    length, found = input_ids.size(1), []
    carried: tuple[Tensor, ...] = ()
    starts = [start for start in range(0, length, num_tokens) if length - start > 1]
    for start, stop in zip(starts, [*starts[1:], length], strict=True):
        part = input_ids[:, start:stop]
        if learns:
            states: Tensor
            states, *after = checkpoint(_read, compressor, part, *carried, use_reentrant=False)
        else:
            states, *after = _read(compressor, part, *carried)
        carried = tuple(after)
        found.append(states)
    return torch.cat(found, dim=1)


def _read(compressor: Any, input_ids: Tensor, *carried: Tensor) -> tuple[Tensor, ...]:
    """Read one segment; returns the states of its positions, and those that the next one goes on from."""
    states, after = read_on(compressor.backbone, compressor.embed(input_ids), carried)
    return states, *after


__all__ = ["carries_state", "read_segments", "require_segments"]

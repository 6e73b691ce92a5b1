"""The emotion token: the mixture of a language model's own emotion words that says what a clip shows."""

import torch
from torch import Tensor
from torch.nn import functional


def emotion_shares(logits: Tensor, told: Tensor | None) -> Tensor:
    """Return how much of each emotion's word the token is.

    Args:
        logits: (B, E), the extractor's for each emotion.
        told: int64 (B,), the one emotion that the token is to say whatever was heard and seen, -1 where it says that.

    Returns:
        float32 (B, E), each row of sum 1.
    """
    found: Tensor = logits.float().softmax(dim=-1)
    if told is None:
        return found
    alone = functional.one_hot(told.clamp(min=0), found.size(-1)).to(found.dtype)
    return torch.where((told >= 0).unsqueeze(1), alone, found)


__all__ = ["emotion_shares"]

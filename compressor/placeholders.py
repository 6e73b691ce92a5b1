"""Placeholder tokens: ids in a prompt whose embeddings come from elsewhere than the language model's table."""

import torch
from torch import Tensor, nn

MEMORY_TOKEN = "<|memory|>"


class PlaceholderError(ValueError):
    """Placeholders and the vectors for them do not match in number."""


def embed_tokens(table: nn.Module, input_ids: Tensor, placeholder_ids: tuple[int, ...]) -> Tensor:
    """Look up token embeddings, leaving placeholders out of the lookup.

    Placeholder ids may lie beyond the table, so that no pretrained vocabulary has to grow; their rows hold the
    embedding of id 0 until `fill_placeholders` replaces them.

    Args:
        table: the language model's input embedding, (V, D).
        input_ids: int64 (B, T).
        placeholder_ids: the ids to leave out.

    Returns:
        (B, T, D) in the table's dtype.
    """
    is_placeholder = torch.isin(input_ids, torch.tensor(placeholder_ids, device=input_ids.device))
    embeds: Tensor = table(input_ids.masked_fill(is_placeholder, 0))
    return embeds


def fill_placeholders(embeds: Tensor, input_ids: Tensor, placeholder_id: int, vectors: Tensor, mask: Tensor) -> Tensor:
    """Put vectors where the placeholders stand, row by row, left to right.

    Args:
        embeds: (B, T, D).
        input_ids: int64 (B, T).
        placeholder_id: the id to replace.
        vectors: (N, L, D); N rows need not be B rows, only the order counts.
        mask: bool (N, L), which vectors are real.

    Returns:
        (B, T, D), differentiable in `embeds` and `vectors`.

    Raises:
        PlaceholderError: the number of placeholders is not the number of real vectors.
    """
    where = input_ids == placeholder_id
    num_places, num_vectors = int(where.sum()), int(mask.sum())
    if num_places != num_vectors:
        raise PlaceholderError(
            f"{num_places} placeholders of id {placeholder_id} but {num_vectors} vectors; prompt and features were "
            "made with different settings, or truncation cut a placeholder"
        )
    # Multiplying by zero keeps an unused branch in the graph: every rank then runs the same collectives.
    embeds = embeds + 0.0 * vectors.sum().to(embeds.dtype)
    return embeds.masked_scatter(where.unsqueeze(-1), vectors[mask].to(embeds.dtype))

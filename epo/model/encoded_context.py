"""What stands behind the placeholders of prompts: memories and clips, as vectors that the language model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from compressor.placeholders import fill_placeholders
from epo.model.extractor import ExtractorOutput

CONTEXT_KEYS = ("history_ids", "input_features", "num_mel_frames", "pixel_values", "num_video_frames")
"""Inputs beside the prompt, one row each: what `encode_context` reads."""

MEMORY_KEYS = ("memory_vectors", "memory_mask")
"""Inputs that stand for `history_ids` where the history was compressed before, turn by turn."""

PLACED_KEYS = ("placed_vectors", "placed_ids")
"""Inputs that stand for all of these where they were encoded before, a prompt at a time (`EncodedContext.placed`)."""


@dataclass
class EncodedContext(ModelOutput):
    """What stands behind the placeholders of a batch, in the language model's embedding space.

    Attributes:
        vectors: token id to ((B, L, D) vectors, bool (B, L) mask), a row a prompt.
        clips: `ExtractorOutput`, None where no clips were given.
    """

    vectors: dict[int, tuple[Tensor, Tensor]] | None = None
    clips: ExtractorOutput | None = None

    def rows(self, index: Tensor) -> "EncodedContext":
        """Return the vectors of some rows, in the order of an index (N,); the clips' other outputs stay behind."""
        vectors = self.vectors or {}
        return EncodedContext(vectors={i: (values[index], mask[index]) for i, (values, mask) in vectors.items()})

    def placed(self, prompts: Sequence[Tensor], dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Return each prompt's placeholders, int64 (N,), and what stands there, (N, D).

        Args:
            prompts: ids of each row's, int64 (T,).
            dtype: of the language model's embeddings, among which they will stand.

        Raises:
            PlaceholderError: placeholders and vectors differ in number.
        """
        vectors = self.vectors or {}
        found = []
        for row, ids in enumerate(prompts):
            kinds = ids[torch.isin(ids, ids.new_tensor(list(vectors)))].unsqueeze(0)
            width = next(iter(vectors.values()))[0].size(-1)
            places = torch.zeros(*kinds.shape, width, dtype=dtype, device=ids.device)
            for token_id, (values, mask) in vectors.items():
                places = fill_placeholders(places, kinds, token_id, values[row].unsqueeze(0), mask[row].unsqueeze(0))
            found.append((kinds.squeeze(0), places.squeeze(0)))
        return found

    @classmethod
    def of_placed(cls, vectors: Tensor, ids: Tensor, token_ids: Sequence[int]) -> "EncodedContext":
        """Return the context of a batch whose vectors were `placed` before; what else was found in clips is not there.

        Args:
            vectors: (B, L, D), in the order of each prompt's placeholders.
            ids: int64 (B, L), the placeholder of each; anything else where there is none.
            token_ids: of all placeholders.
        """
        return cls(vectors={token_id: (vectors, ids == token_id) for token_id in token_ids})


__all__ = ["CONTEXT_KEYS", "MEMORY_KEYS", "PLACED_KEYS", "EncodedContext"]

"""A table of word embeddings that stands where a compressor has its backbone."""

from torch import nn


class WordsTable(nn.Module):
    """Token embeddings under the names that backbones of transformers have for them."""

    def __init__(self, num_words: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(num_words, width)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the table."""
        return self.embeddings


__all__ = ["WordsTable"]

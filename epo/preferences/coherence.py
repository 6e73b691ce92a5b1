"""How likely a causal language model that only reads finds a reply: the words before it, and nothing heard or seen."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compressor.progress import Progress
from epo.data.dialogue import Turn
from epo.preferences.marginals import Floats

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAX_TOKENS = 512  # of context and reply together; a longer context loses its beginning
_BATCH_TOKENS = 2048  # padding included
_BATCH_SCORES = 2**26  # float32 numbers of a batch's scores over the vocabulary: 256 MiB

Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of the reply to it."""


class CoherenceReader:
    """Scores replies by a causal language model, in batches of like length.

    The model is given the last turns as lines of plain text, `user: ...` and `assistant: ...`, so that any causal
    language model will do, tuned to chat or not.
    """

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take a loaded model, on whatever device it is, and its tokenizer."""
        self._model = model.eval()
        self._tokenizer = tokenizer
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._max_tokens = _MAX_TOKENS if longest is None else min(_MAX_TOKENS, longest)

    def read(self, contexts: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Floats:
        """Return the mean log-probability of each reply's tokens.

        Args:
            contexts: the turns before each reply that the model may see; none gives how likely the reply is in itself.
            replies: as many.

        Returns:
            float64 (N,), in nats a token; NaN for a reply in which the tokenizer finds no token.
        """
        rows = [self._encode(turns, reply) for turns, reply in zip(contexts, replies, strict=True)]
        found = np.full(len(rows), np.nan)
        progress = Progress("coherence", len(rows), "replies")
        for places in _batches(rows, self._model.get_input_embeddings().num_embeddings):
            found[places] = self._score([rows[place] for place in places])
            progress.advance(len(places))
        progress.close()
        return found

    def _encode(self, turns: Sequence[Turn], reply: str) -> Row:
        lines = [f"{turn.speaker}: {' '.join(turn.text.split())}" for turn in turns]
        prompt = self._tokenizer.encode("\n".join([*lines, "assistant:"]), verbose=False)
        words = self._tokenizer.encode(" " + " ".join(reply.split()), add_special_tokens=False, verbose=False)
        words = words[: self._max_tokens // 2]
        return prompt[-(self._max_tokens - len(words)) :], words

    def _score(self, rows: Sequence[Row]) -> list[float]:
        """Return the mean log-probability of each row's reply; padding stands on the right, where nothing looks."""
        import torch
        from torch.nn.functional import cross_entropy

        from compressor.language_model import logits_at

        longest = max(len(prompt) + len(reply) for prompt, reply in rows)
        ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, (prompt, reply) in enumerate(rows):
            ids_BT[place, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
        ids_BT = ids_BT.to(self._model.device)
        first = min(len(prompt) for prompt, _ in rows) - 1  # each column predicts the token after it
        columns = torch.arange(first, longest - 1, device=ids_BT.device)
        with torch.inference_mode():
            scores_BCV = logits_at(self._model, columns, input_ids=ids_BT, use_cache=False)
            means = []
            for place, (prompt, reply) in enumerate(rows):
                begin = len(prompt) - 1 - first
                scores_RV = scores_BCV[place, begin : begin + len(reply)].float()
                targets_R = ids_BT[place, len(prompt) : len(prompt) + len(reply)]
                means.append(-cross_entropy(scores_RV, targets_R).item())
        return means


def _batches(rows: Sequence[Row], num_embeddings: int) -> Iterator[list[int]]:
    """Yield the places of rows that are scored together: those of like length, as many as memory allows."""
    batch: list[int] = []
    for place in sorted((i for i, row in enumerate(rows) if row[1]), key=lambda i: (len(rows[i][0]), len(rows[i][1]))):
        together = [rows[i] for i in [*batch, place]]
        longest = max(len(prompt) + len(reply) for prompt, reply in together)
        columns = longest - min(len(prompt) for prompt, _ in together)
        num_scores = len(together) * columns * num_embeddings
        if batch and (len(together) * longest > _BATCH_TOKENS or num_scores > _BATCH_SCORES):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch

"""BERTScore of replies against the gold, by the bert-score package and a model the user names."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from compressor.words import split_words
from epo.part_names import find_part

# Where neither tokenizer nor model says how much the model reads: relative positions have no end. Our choice.
_LONGEST_TOKENS = 512


class BertScoreError(ValueError):
    """BERTScore was asked for but cannot be computed; the message says what to install or name."""


class BertEncoder:
    """Scores replies by the contextual embeddings of one encoder (Zhang et al. 2020, arXiv 1904.09675)."""

    def __init__(self, model: str, layer: int | None) -> None:
        """Load the encoder.

        Args:
            model: hub name or folder of an encoder.
            layer: which hidden layer to compare; None takes the package's choice, which it has for known hub names.

        Raises:
            BertScoreError: the package is missing, or the model or its layer is not known.
        """
        try:
            from bert_score import BERTScorer
        except ImportError:
            raise BertScoreError("bert_score_model: needs the package; pip install -e '.[metrics]'") from None
        try:
            from bert_score.utils import model2layers

            place = find_part(model)
            if not place.is_local and place.revision is not None:
                raise BertScoreError(
                    f"bert_score_model {model!r}: the package reads the newest revision only; fetch this one into a "
                    f"folder (hf download {place.source} --revision {place.revision} --local-dir FOLDER) and name that"
                )
            known = model2layers.get(model.partition("@")[0]) if layer is None else layer
            self._scorer = BERTScorer(model_type=place.source, num_layers=known)
        except (OSError, KeyError, AssertionError) as error:
            raise BertScoreError(f"bert_score_model {model!r}, bert_score_layer {layer}: {error!r}") from error
        # The package cuts texts at what the tokenizer says, which is a number of 30 digits where it says nothing.
        tokenizer = self._scorer._tokenizer
        tokenizer.model_max_length = min(tokenizer.model_max_length, _longest_input(self._scorer._model))

    def f1s(self, replies: Sequence[str], golds: Sequence[str]) -> list[float]:
        """Return the F1 of each reply, not rescaled.

        The 0.907 of arXiv 2412.17572 is of this kind, with RoBERTa-large; unrelated sentences already reach about 0.8
        there, so name the model and the layer with the number. A reply without a word, or one to a gold without a
        word, has nothing to compare and scores 0 (our choice; the package has no value for it either).

        Args:
            replies: words, without the emotion label.
            golds: one for each reply.
        """
        pairs = list(zip(replies, golds, strict=True))
        worded = [place for place, texts in enumerate(pairs) if all(split_words(text) for text in texts)]
        found = [0.0] * len(pairs)
        if worded:
            scores = self._scorer.score([pairs[i][0] for i in worded], [pairs[i][1] for i in worded])[2]
            for place, score in zip(worded, scores.tolist(), strict=True):
                found[place] = score
        return found


def _longest_input(model: nn.Module) -> int:
    """Return how many tokens an encoder reads, by its config and its table of positions."""
    config: Any = model.config
    length = next(
        (getattr(config, name) for name in ("max_position_embeddings", "n_positions") if hasattr(config, name)), None
    )
    if not isinstance(length, int) or length <= 0:
        return _LONGEST_TOKENS
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    # RoBERTa's kind counts positions from one beyond its padding id, so the first places of the table are not used.
    paddings = [table.padding_idx for table in tables if isinstance(table, nn.Embedding)]
    return length - max([0, *(padding + 1 for padding in paddings if padding is not None)])

"""Named model: a text-classification model of transformers, its labels read by a map, as a judge of emotions."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from epo.data.dialogue import DataError
from epo.data.label_sets import WORDS
from epo.emotions import EMOTIONS, Emotion, UnknownEmotionError
from epo.judging.degenerate_text import is_degenerate
from epo.judging.judge import Floats

_BATCH = 32


class NamedModel:
    """Reads emotions with a sequence classifier."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        read_label: Callable[[str], Emotion | None],
        name: str,
        remedy: str = "name another model, or words",
    ) -> None:
        """Take a loaded model.

        Args:
            model: a sequence classifier with names for its labels.
            tokenizer: its own.
            read_label: returns the emotion of a label, None for one to leave out; raises where it knows it not.
            name: of the model, for messages.
            remedy: what to do where a label is not known.

        Raises:
            DataError: a label is not in the map, or none is one of our emotions.
        """
        self.name = name
        self._model, self._tokenizer = model.eval(), tokenizer
        labels = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]
        self._table = np.zeros((len(labels), len(EMOTIONS)))
        for index, label in enumerate(labels):
            try:
                emotion = read_label(label)
            except UnknownEmotionError:
                raise DataError(
                    f"{name}: its label {label!r} is not in the label map; its labels are {', '.join(labels)}: {remedy}"
                ) from None
            if emotion is not None:
                self._table[index, EMOTIONS.index(emotion)] = 1.0
        if not self._table.any():
            raise DataError(f"{name}: the label map leaves out all its labels, {', '.join(labels)}")
        limit = int(tokenizer.model_max_length)
        self._max_length = min(limit, int(getattr(model.config, "max_position_embeddings", limit)), 512)
        self._known: dict[str, Floats] = {}

    @classmethod
    def load(
        cls,
        model: str,
        read_label: Callable[[str], Emotion | None] = WORDS.read,
        remedy: str = "name another model, or words",
    ) -> Self:
        """Load a model by its folder or hub name.

        Args:
            model: where it is.
            read_label: as for the constructor; unless given, the usual words for emotions.
            remedy: likewise.

        Raises:
            PartError: it cannot be found or is damaged, or has no safetensors.
            DataError: as for the constructor.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        from epo.model.checkpoints import load_weights
        from epo.model.parts import load_tokenizer

        loaded = load_weights(AutoModelForSequenceClassification, model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(loaded.to(device), load_tokenizer(model, ()), read_label, model, remedy)

    def shares(self, texts: Sequence[str]) -> Floats:
        """Return float64 (N, E), summing to at most 1 a row: the rest belongs to labels that are none of ours.

        Args:
            texts: any number; of one longer than the model reads, the end is cut off.
        """
        starts = range(0, len(texts), _BATCH)
        rows = [self._shares(texts[start : start + _BATCH]) for start in starts]
        return np.concatenate(rows) if rows else np.zeros((0, len(EMOTIONS)))

    def read(self, texts: Sequence[str]) -> Floats:
        """See `EmotionJudge`; what belongs to labels that are none of ours is left out of the whole."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        said = [text for text in new if not is_degenerate(text)]
        even = np.full(len(EMOTIONS), 1 / len(EMOTIONS))
        self._known |= dict.fromkeys(new, even)
        for text, row in zip(said, self.shares(said), strict=True):
            self._known[text] = row / row.sum() if row.sum() > 0 else even
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, len(EMOTIONS)))

    def _shares(self, texts: Sequence[str]) -> Floats:
        import torch

        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = self._model(**batch.to(self._model.device)).logits.double()
        is_multiple = self._model.config.problem_type == "multi_label_classification"
        scores = logits.sigmoid() if is_multiple else logits.softmax(dim=-1)
        rows: Floats = (scores / scores.sum(dim=-1, keepdim=True)).cpu().numpy() @ self._table
        return rows


def short_name(model: str) -> str:
    """Return what a label says of its model: the hub name, or of a folder its last part, not where it lies."""
    return Path(model).resolve().name if Path(model).exists() else model


__all__ = ["NamedModel", "short_name"]

"""Labellers: models that give an emotion to words or to a clip, each with how sure it is."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError
from epo.data.media import MediaError
from epo.emotions import EMOTIONS, Emotion
from epo.judging.degenerate_text import is_degenerate
from epo.judging.judge import EmotionJudge
from epo.judging.named_model import NamedModel, short_name
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.extractor import EmotionExtractor
from epo.preferences.marginals import Floats
from epo.preferences.scores import words_or_mark

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_FOLDS = 5
GIVE_LABELS = "give --labels, a map by name or a file with one `label: emotion` a line"


class Labeller(Protocol):
    """Reads words, or clips, in batches."""

    def read(self, items: Sequence[Any]) -> list[Floats | None]:
        """Return for each item float64 (E,), the probability of each emotion; None for one that cannot be read.

        They may sum to less than 1: the rest belongs to labels that are none of ours.
        """
        ...


class WordsModel:
    """A text-classification model of transformers, its labels read by a map."""

    def __init__(self, model: Any, tokenizer: Any, read_label: Callable[[str], Emotion | None], name: str) -> None:
        """Take a loaded model.

        Args:
            model: a sequence classifier with names for its labels.
            tokenizer: its own.
            read_label: returns the emotion of a label, None for one to leave out; raises where it knows it not.
            name: of the model, for messages.

        Raises:
            DataError: a label is not in the map, or none is one of our emotions.
        """
        self._model = NamedModel(model, tokenizer, read_label, name, GIVE_LABELS)

    @classmethod
    def load(cls, model: str, read_label: Callable[[str], Emotion | None]) -> Self:
        """Load a model by its folder or hub name; errors as for `NamedModel.load`."""
        labeller = cls.__new__(cls)
        labeller._model = NamedModel.load(model, read_label, GIVE_LABELS)
        return labeller

    def read(self, items: Sequence[str]) -> list[Floats | None]:
        """See `Labeller`; of a text longer than the model reads, the end is cut off."""
        return list(self._model.shares(items))


class JudgeLabeller:
    """A judge of emotions as a labeller."""

    def __init__(self, judge: EmotionJudge) -> None:
        self._judge = judge

    def read(self, items: Sequence[str]) -> list[Floats | None]:
        """See `Labeller`; a degenerate text, which has no words to judge, gets None."""
        rows = self._judge.read(items)
        return [None if is_degenerate(text) else row for text, row in zip(items, rows, strict=True)]


class CorpusWords:
    """TF-IDF of words and logistic regression, fitted on the corpus's own labels."""

    def __init__(self, texts: Sequence[str], emotions: Sequence[Emotion], groups: Sequence[str]) -> None:
        """Fit it, and find out how it does on texts of dialogues it was not fitted on.

        Args:
            texts: labelled ones.
            emotions: theirs.
            groups: what may not be both learnt from and tested on: the dialogue, or its group.

        Raises:
            DataError: fewer than two emotions occur.
        """
        if len(set(emotions)) < 2:
            found = ", ".join(sorted(set(emotions))) or "none"
            raise DataError(f"--model corpus: want two emotions or more among labelled turns of train, found {found}")
        self._classifier = _fit(texts, emotions)
        folds = {group: place % _FOLDS for place, group in enumerate(sorted(set(groups)))}
        fold_of = np.array([folds[group] for group in groups])
        self.held_out: list[Floats] = [np.zeros(len(EMOTIONS)) for _ in texts]
        for fold in range(_FOLDS):
            inside, outside = np.flatnonzero(fold_of == fold).tolist(), np.flatnonzero(fold_of != fold).tolist()
            known = {emotions[place] for place in outside}
            if not inside or len(known) < 2:
                continue
            classifier = _fit([texts[place] for place in outside], [emotions[place] for place in outside])
            for place, row in zip(inside, _distributions(classifier, [texts[i] for i in inside]), strict=True):
                self.held_out[place] = row

    def read(self, items: Sequence[str]) -> list[Floats | None]:
        """See `Labeller`."""
        return list(_distributions(self._classifier, items))


class ClipModel:
    """An extractor that a stage of this project wrote: its fused head."""

    def __init__(self, extractor: EmotionExtractor, reader: ClipReader, cache: ClipCache) -> None:
        self._extractor, self._reader, self._cache = extractor.eval(), reader, cache

    @torch.no_grad()
    def read(self, items: Sequence[Clip]) -> list[Floats | None]:
        """See `Labeller`; a clip that cannot be decoded gets None."""
        found = [self._features(clip) for clip in items]
        features = [feature for feature in found if feature is not None]
        if not features:
            return [None] * len(items)
        batch = {name: tensor.to(self._extractor.device) for name, tensor in self._reader.batch(features).items()}
        rows = iter(self._extractor(**batch).fused_logits.double().softmax(dim=-1).cpu().numpy())
        return [None if feature is None else next(rows) for feature in found]

    def _features(self, clip: Clip) -> ClipFeatures | None:
        try:
            return self._reader.read(clip, self._cache)
        except MediaError:
            return None


def _fit(texts: Sequence[str], emotions: Sequence[Emotion]) -> "Pipeline":
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(tokenizer=words_or_mark, token_pattern=None, lowercase=False, sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(max_iter=1000)).fit(list(texts), list(emotions))


def _distributions(classifier: "Pipeline", texts: Sequence[str]) -> Floats:
    rows = np.zeros((len(texts), len(EMOTIONS)))
    rows[:, [EMOTIONS.index(emotion) for emotion in classifier.classes_]] = classifier.predict_proba(list(texts))
    return rows


__all__ = ["ClipModel", "CorpusWords", "JudgeLabeller", "Labeller", "WordsModel", "short_name"]

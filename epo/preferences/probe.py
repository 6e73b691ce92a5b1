"""Probes: how well the chosen reply can be told from the rejected one without the clip; 0.5 is the goal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.words import split_words
from epo.data.dialogue import Dialogue
from epo.preferences.pair import PreferencePair
from epo.preferences.scores import words_or_mark

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

_FOLDS = 5
_MAX_PAIRS = 4000  # beyond this an even sample is probed; its standard error is below 0.008
_CONTEXT_TURNS = 3


def probe_pairs(pairs: Sequence[PreferencePair], dialogues: Mapping[str, Dialogue]) -> dict[str, float]:
    """Measure in how many pairs the chosen reply is found without looking at the clip.

    Each is a share of pairs in [0, 1], ties counting one half:

    - words: a word classifier scores the chosen reply above the rejected one (logistic regression on TF-IDF words and
      word pairs, cross-validated in five folds by dialogue). Left out below ten dialogues.
    - topic: the chosen reply shares more words with the last three turns before it (cosine of TF-IDF).
    - length: the chosen reply has more words.

    Above 0.5, preference training can be won in part by that alone. A difference of 1 / sqrt(pairs) is noise.

    Source: our choice.
    """
    if not pairs:
        return {}
    sample = [pairs[place] for place in np.linspace(0, len(pairs) - 1, min(len(pairs), _MAX_PAIRS)).astype(int)]
    found = {"topic": _topic(sample, dialogues), "length": _length(sample)}
    if len({pair.dialogue_id for pair in sample}) >= 2 * _FOLDS:
        found["words"] = _words(sample)
    return found


def _words(pairs: Sequence[PreferencePair]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    chosen = np.array([pair.chosen for pair in pairs], dtype=object)
    rejected = np.array([pair.rejected for pair in pairs], dtype=object)
    gaps = np.zeros(len(pairs))
    for train, held_out in GroupKFold(_FOLDS).split(chosen, groups=[pair.dialogue_id for pair in pairs]):
        # A retrieved reply is chosen in one pair and rejected in another: a text of a held-out pair that is also
        # seen in training would be known by heart, with the wrong sign.
        unseen = {*chosen[held_out], *rejected[held_out]}
        texts = [(text, 1) for text in chosen[train] if text not in unseen]
        texts += [(text, 0) for text in rejected[train] if text not in unseen]
        if len({label for _, label in texts}) < 2:
            continue  # nothing to learn from: the gap stays 0, a tie
        probe = make_pipeline(_tfidf(ngram_range=(1, 2)), LogisticRegression(solver="liblinear"))
        probe.fit(*zip(*texts, strict=True))
        gaps[held_out] = probe.decision_function(chosen[held_out]) - probe.decision_function(rejected[held_out])
    return _share_won(gaps)


def _topic(pairs: Sequence[PreferencePair], dialogues: Mapping[str, Dialogue]) -> float:
    contexts = [
        " ".join(
            turn.text for turn in dialogues[pair.dialogue_id].turns[max(0, pair.turn - _CONTEXT_TURNS) : pair.turn]
        )
        for pair in pairs
    ]
    texts = contexts + [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    rows = _tfidf().fit_transform(texts)
    size = len(pairs)
    chosen = rows[:size].multiply(rows[size : 2 * size]).sum(axis=1)
    rejected = rows[:size].multiply(rows[2 * size :]).sum(axis=1)
    return _share_won(np.asarray(chosen - rejected).ravel())


def _length(pairs: Sequence[PreferencePair]) -> float:
    return _share_won(np.array([len(split_words(pair.chosen)) - len(split_words(pair.rejected)) for pair in pairs]))


def _tfidf(ngram_range: tuple[int, int] = (1, 1)) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(tokenizer=words_or_mark, token_pattern=None, lowercase=False, ngram_range=ngram_range)


def _share_won(gaps: NDArray[np.float64]) -> float:
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())

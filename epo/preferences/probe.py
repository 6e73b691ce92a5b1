"""A bag-of-words probe: how well the chosen reply can be told from the rejected one without history or clip."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from epo.preferences.pair import PreferencePair
from epo.preferences.scores import tokenize

_FOLDS = 5


def probe_accuracy(pairs: Sequence[PreferencePair], max_pairs: int = 4000) -> float | None:
    """Return the share of held-out pairs whose chosen reply a word classifier scores above the rejected one.

    A logistic regression on TF-IDF words and word pairs, cross-validated in five folds by dialogue; equal scores
    count one half. Near 0.5 is the goal: above it, preference training can be won without looking at the clip.

    Args:
        pairs: at least ten dialogues' worth.
        max_pairs: beyond this many, an even sample is probed.

    Returns:
        Accuracy in [0, 1], or None where there are fewer than ten dialogues.

    Source: our choice.
    """
    sample = [pairs[index] for index in np.linspace(0, len(pairs) - 1, min(len(pairs), max_pairs)).astype(int)]
    groups = np.array([pair.dialogue_id for pair in sample])
    if len(set(groups)) < 2 * _FOLDS:
        return None
    chosen = np.array([pair.chosen for pair in sample], dtype=object)
    rejected = np.array([pair.rejected for pair in sample], dtype=object)
    wins = np.zeros(len(sample))
    for train, held_out in GroupKFold(_FOLDS).split(sample, groups=groups):
        probe = make_pipeline(
            TfidfVectorizer(tokenizer=tokenize, token_pattern=None, ngram_range=(1, 2)),
            LogisticRegression(max_iter=200),
        )
        labels = np.repeat([1, 0], len(train))
        probe.fit(np.concatenate([chosen[train], rejected[train]]), labels)
        gap = probe.decision_function(chosen[held_out]) - probe.decision_function(rejected[held_out])
        wins[held_out] = (gap > 0) + 0.5 * (gap == 0)
    return float(wins.mean())

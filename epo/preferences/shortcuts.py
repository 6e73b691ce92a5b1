"""Probes: how well the chosen reply can be told from the rejected one without the clip; 0.5 is the goal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.words import split_words
from epo.data.chance import share_interval
from epo.data.dialogue import Turn
from epo.preferences.coherence import CoherenceReader
from epo.preferences.pair import PreferencePair
from epo.preferences.scores import words_or_mark

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

_FOLDS = 5
_MAX_PAIRS = 4000  # beyond this an even sample is probed; its standard error is below 0.008
_MAX_COHERENCE_PAIRS = 400  # each is read four times by a language model; standard error 0.025
_CONTEXT_TURNS = 3


@dataclass(frozen=True)
class Coherence:
    """How well a language model that only reads finds the chosen replies.

    Attributes:
        coherence: share of pairs whose chosen reply it finds the likelier one after the last turns, a token on average.
        coherence_pmi: the same share after what each reply is likely without any turn before it has been taken off, so
            that a reply gains nothing by being a common one.
        chosen_nats: mean log-probability a token of the chosen replies after the last turns.
        rejected_nats: of the rejected ones.
        num_pairs: how many pairs were read.
    """

    coherence: float
    coherence_pmi: float
    chosen_nats: float
    rejected_nats: float
    num_pairs: int

    def report(self) -> dict[str, float]:
        """Return what `report.json` says beside the shares."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("coherence")}


def probe_pairs(pairs: Sequence[PreferencePair]) -> dict[str, float]:
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
    sample = _sample(pairs, _MAX_PAIRS)
    found = {"topic": _topic(sample), "length": _length(sample)}
    if len({pair.dialogue_id for pair in sample}) >= 2 * _FOLDS:
        found["words"] = _words(sample)
    return found


def probe_report(pairs: Sequence[PreferencePair], reader: CoherenceReader | None) -> dict[str, Any]:
    """Return what a report says of all probes: `probes`, `probe_intervals` (95 %), and `coherence` where measured.

    Args:
        pairs: of one split, with emotions or without.
        reader: the language model of the probe of coherence; None leaves it out.
    """
    shares = probe_pairs(pairs)
    num_pairs = dict.fromkeys(shares, min(len(pairs), _MAX_PAIRS))
    coherence = None if reader is None else probe_coherence(pairs, reader)
    if coherence is not None:
        for name, share in (("coherence", coherence.coherence), ("coherence_pmi", coherence.coherence_pmi)):
            shares[name], num_pairs[name] = share, coherence.num_pairs
    return {
        "probes": shares,
        "probe_intervals": {name: share_interval(share, num_pairs[name]) for name, share in shares.items()},
        "coherence": None if coherence is None else coherence.report(),
    }


def probe_coherence(pairs: Sequence[PreferencePair], reader: CoherenceReader) -> Coherence | None:
    """Let a language model that only reads compare the replies of pairs after the last three turns before them.

    Of many pairs an even sample is read. Ties count one half, and so does a pair with a reply that has no token.
    None where there is no pair.

    Source: our choice.
    """
    if not pairs:
        return None
    sample = _sample(pairs, _MAX_COHERENCE_PAIRS)
    contexts = [pair.reply.last_turns(_CONTEXT_TURNS) for pair in sample] * 2
    nothing: list[Sequence[Turn]] = [()] * len(contexts)
    replies = [pair.chosen for pair in sample] + [pair.rejected for pair in sample]
    found = reader.read([*contexts, *nothing], [*replies, *replies])
    chosen, rejected, chosen_alone, rejected_alone = found.reshape(4, len(sample))
    return Coherence(
        coherence=_share_won(np.nan_to_num(chosen - rejected)),
        coherence_pmi=_share_won(np.nan_to_num((chosen - chosen_alone) - (rejected - rejected_alone))),
        chosen_nats=float(np.nanmean(chosen)),
        rejected_nats=float(np.nanmean(rejected)),
        num_pairs=len(sample),
    )


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


def _topic(pairs: Sequence[PreferencePair]) -> float:
    contexts = [" ".join(turn.text for turn in pair.reply.last_turns(_CONTEXT_TURNS)) for pair in pairs]
    texts = contexts + [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    rows = _tfidf().fit_transform(texts)
    size = len(pairs)
    chosen = rows[:size].multiply(rows[size : 2 * size]).sum(axis=1)
    rejected = rows[:size].multiply(rows[2 * size :]).sum(axis=1)
    return _share_won(np.asarray(chosen - rejected).ravel())


def _length(pairs: Sequence[PreferencePair]) -> float:
    return _share_won(np.array([len(split_words(pair.chosen)) - len(split_words(pair.rejected)) for pair in pairs]))


def _sample(pairs: Sequence[PreferencePair], most: int) -> list[PreferencePair]:
    """Return an even sample."""
    return [pairs[place] for place in np.linspace(0, len(pairs) - 1, min(len(pairs), most)).astype(int)]


def _tfidf(ngram_range: tuple[int, int] = (1, 1)) -> "TfidfVectorizer":
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(tokenizer=words_or_mark, token_pattern=None, lowercase=False, ngram_range=ngram_range)


def _share_won(gaps: NDArray[np.float64]) -> float:
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())

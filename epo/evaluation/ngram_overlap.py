"""N-gram overlap of replies and gold replies: corpus BLEU, METEOR, chrF."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from compressor.words import plain_form, split_words

_LONGEST = 6  # characters
_BETA = 2.0


def corpus_bleus(replies: Sequence[str], golds: Sequence[str]) -> list[float]:
    """Return BLEU-1 to BLEU-4 of all replies together, each in [0, 1]; 0 where no n-gram of one length is shared.

    N-grams of all lengths weigh the same, nothing is smoothed, and the words are those of `split_words`. Source:
    Papineni et al. 2002, doi 10.3115/1073083.1073135.
    """
    said, wanted = [split_words(reply) for reply in replies], [split_words(gold) for gold in golds]
    penalty = _brevity(sum(map(len, said)), sum(map(len, wanted)))
    scores, product = [], 1.0
    for n in (1, 2, 3, 4):
        pairs = [(_word_grams(ours, n), _word_grams(gold, n)) for ours, gold in zip(said, wanted, strict=True)]
        shared, total = sum((ours & gold).total() for ours, gold in pairs), sum(ours.total() for ours, _ in pairs)
        product *= shared / max(total, 1)
        scores.append(float(penalty * product ** (1 / n)))
    return scores


def _word_grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def meteors(replies: Sequence[str], golds: Sequence[str]) -> list[float]:
    """Return METEOR of each reply, in [0, 1], by nltk: exact words, then Porter stems; no synonyms.

    WordNet is a download of its own and knows English alone, so it is left out in every language (our choice). Source:
    Banerjee and Lavie 2005, aclanthology W05-0909.
    """
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score

    stemmer, nothing = _Stems(PorterStemmer()), _NoSynonyms()
    return [
        float(single_meteor_score(split_words(gold), said, stemmer=stemmer, wordnet=nothing)) if said else 0.0
        for said, gold in zip(map(split_words, replies), golds, strict=True)
    ]


class _Stems:
    """A stemmer that remembers."""

    def __init__(self, stemmer: Any) -> None:
        self.stem = cache(stemmer.stem)


class _NoSynonyms:
    """A WordNet that knows no word."""

    def synsets(self, word: str) -> list[Any]:
        return []


def character_fs(replies: Sequence[str], golds: Sequence[str]) -> list[float]:
    """Return chrF2 of each reply, in [0, 1]: the mean over n = 1 to 6 of the F of character n-grams, blanks left out.

    Lengths that neither text has are passed over. Source: Popović 2015, aclanthology W15-3049, beta 2 as in Popović
    2016; texts are compared in lower case and in their plain form.
    """
    return [_character_f(*pair) for pair in zip(map(_characters, replies), map(_characters, golds), strict=True)]


def _characters(text: str) -> str:
    return "".join(plain_form(text).split())


def _character_f(reply: str, gold: str) -> float:
    scores = []
    for n in range(1, _LONGEST + 1):
        ours, theirs = _grams(reply, n), _grams(gold, n)
        total_ours, total_theirs = max(len(reply) - n + 1, 0), max(len(gold) - n + 1, 0)
        if total_ours == 0 and total_theirs == 0:
            continue
        shared = sum((ours & theirs).values())
        if shared == 0:
            scores.append(0.0)
            continue
        precision, recall = shared / total_ours, shared / total_theirs
        scores.append((1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall))
    return sum(scores) / len(scores) if scores else 0.0


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))


def self_bleu(replies: Sequence[str], longest: int = 4) -> list[float]:
    """Return for each reply its BLEU against all others as references: 1 where another one says it too.

    N-grams up to `longest` words, all of one weight, no smoothing; the reference length is the closest one, the shorter
    of two. A reply with less than one word counts 0, and so does a single reply. For each n-gram the two replies that
    have it most often are remembered, so the time grows with the words and not with the square of the replies.

    Source: Zhu et al. 2018, arXiv 1802.01886; BLEU as above.
    """
    words = [split_words(reply) for reply in replies]
    if len(words) < 2:
        return [0.0] * len(words)
    log_precisions = np.zeros(len(words))
    for n in range(1, longest + 1):
        counts = [_word_grams(said, n) for said in words]
        log_precisions += _log_precisions(counts) / longest
    lengths = [len(said) for said in words]
    penalties = [_brevity(length, closest) for length, closest in zip(lengths, _closest(lengths), strict=True)]
    return [float(penalty * np.exp(score)) for penalty, score in zip(penalties, log_precisions, strict=True)]


def _log_precisions(counts: Sequence[Counter[tuple[str, ...]]]) -> Any:
    """Return the logarithm of each reply's clipped precision against all others, minus infinity where it is 0."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # the highest count, whose it is, and the next highest
    for place, grams in enumerate(counts):
        for gram, count in grams.items():
            first, owner, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, place, first) if count > first else (first, owner, max(second, count))
    found = np.full(len(counts), -np.inf)
    for place, grams in enumerate(counts):
        clipped = sum(
            min(count, most[gram][2] if most[gram][1] == place else most[gram][0]) for gram, count in grams.items()
        )
        if clipped > 0:
            found[place] = np.log(clipped / sum(grams.values()))
    return found


def _closest(lengths: Sequence[int]) -> list[int]:
    """Return for each length the closest one among the others, the shorter of two."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    found = [0] * len(lengths)
    for rank, place in enumerate(order):
        beside = [lengths[order[other]] for other in (rank - 1, rank + 1) if 0 <= other < len(order)]
        found[place] = min(beside, key=lambda length: (abs(length - lengths[place]), length))
    return found


def _brevity(length: int, reference: int) -> float:
    if length == 0:
        return 0.0
    return 1.0 if length > reference else math.exp(1 - reference / length)


__all__ = ["character_fs", "corpus_bleus", "meteors", "self_bleu"]

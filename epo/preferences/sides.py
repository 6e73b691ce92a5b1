"""Sides: which of a policy's own samples may be chosen and which rejected, by what the judge reads in their words.

All of it is our choice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressor.words import contains_words
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.judging.degenerate_text import is_degenerate
from epo.preferences.gold import forbidden_emotions
from epo.preferences.verification import Examiner
from epo.prompts.emotion_label import said_turn

RIGHT, WRONG = "in the gold emotion, with its facts", "in a wrong emotion"
LACKING = "in the gold emotion, but not fit to be chosen"
FITTING = "in another emotion that fits the user's"
AT_ODDS = "label and words in different emotions"
DEGENERATE = "degenerate"
"""What a sample can be; only the first two take a side."""


@dataclass(frozen=True)
class Sides:
    """Both sides of a pair to be, out of the samples in one reply's place.

    Attributes:
        chosen: the gold reply, or with a sample's words in its place.
        rejected: samples in the counter emotion, each once, in the order in which they were drawn; none where no
            sample has a wrong emotion.
        emotion: the counter emotion: the wrong one that most samples have, of several the one drawn first; None
            without any.
        found: how many samples were what.
    """

    chosen: Reply
    rejected: tuple[str, ...]
    emotion: Emotion | None
    found: Counter[str]


def choose_sides(gold: Reply, samples: Sequence[str], examiner: Examiner, may_choose: bool = True) -> Sides:
    """Sort the samples in a gold reply's place, and say what is chosen and what may be rejected.

    A sample's emotion is what the judge reads in its words, and its label must say the same, as pairs are learnt with
    both. Chosen is the sample of which the judge is surest that it has the gold emotion, of several the first, if it
    repeats all facts and passes what a rewrite must pass (`Examiner.objection`); else the gold reply.

    Args:
        gold: with an emotion.
        samples: what the policy said, each with its label.
        examiner: has the judge and the thresholds.
        may_choose: whether a sample may be chosen at all; else the gold reply always is.
    """
    forbidden, found = forbidden_emotions(gold), Counter[str]()
    right: list[tuple[float, str]] = []
    wrong: dict[Emotion, list[str]] = {}
    for sample in samples:
        said = said_turn(sample)
        if is_degenerate(said.text):
            found[DEGENERATE] += 1
            continue
        read_E = examiner.read(gold, said.text)
        emotion = EMOTIONS[int(read_E.argmax())]
        if said.emotion != emotion:
            found[AT_ODDS] += 1
        elif emotion == gold.emotion:
            is_fit = has_facts(gold, said.text) and examiner.objection(gold, said.text) is None
            found[RIGHT if is_fit else LACKING] += 1
            right += [(float(read_E.max()), said.text)] if is_fit else []
        elif emotion in forbidden:
            found[FITTING] += 1
        else:
            found[WRONG] += 1
            wrong.setdefault(emotion, []).append(said.text)
    text = max(right, key=lambda one: one[0])[1] if right and may_choose else gold.text
    counter = max(wrong, key=lambda emotion: len(wrong[emotion]), default=None)
    rejected = () if counter is None else tuple(dict.fromkeys(wrong[counter]))
    return Sides(replace(gold, text=text), rejected, counter, found)


def has_facts(gold: Reply, text: str) -> bool:
    """Tell whether a text repeats, as whole words, every fact that the gold reply is to contain."""
    return all(contains_words(text, fact) for fact in gold.facts)


__all__ = ["AT_ODDS", "DEGENERATE", "FITTING", "LACKING", "RIGHT", "WRONG", "Sides", "choose_sides", "has_facts"]

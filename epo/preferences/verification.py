"""Verification: what a candidate must pass before it becomes the rejected reply of a pair, and which is the best."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.judging.degenerate_text import is_degenerate
from epo.preferences.candidate import Candidate
from epo.preferences.embedding import Embeddings, Encoder
from epo.preferences.marginals import Floats
from epo.preferences.pair import is_same_text
from epo.preferences.readings import EmotionReader, Readings


class ThresholdError(ValueError):
    """A threshold that no pair could keep to; the message says what is wanted."""


@dataclass(frozen=True)
class Thresholds:
    """What a pair must keep to; a candidate outside of them is dropped, and the report says why."""

    min_emotion_distance: float = field(default=0.0, metadata={"help": "of the two labels, 0 to 2.83"})
    min_emotion_divergence: float = field(default=0.0, metadata={"help": "of emotions read from the words, 0 to 1"})
    min_similarity: float = field(default=0.0, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_similarity: float = field(default=0.95, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_length_ratio: float = field(default=2.0, metadata={"help": "longer over shorter reply, 1 or more"})
    min_script_share: float = field(default=0.8, metadata={"help": "letters in the gold reply's script, 0 to 1"})
    min_emotion_shift: float = field(
        default=0.08, metadata={"help": "counter emotion: judge's probability, rejected less chosen; -1: off"}
    )
    min_embedding_similarity: float = field(
        default=0.5, metadata={"help": "rewrites, with embedding_model: cosine with the gold reply; -1: off"}
    )
    min_rewrite_similarity: float = field(
        default=0.6, metadata={"help": "rewrites: token F1 with the gold reply; 0: off"}
    )
    refuse_other_acts: bool = field(
        default=True, metadata={"help": "rewrites: denies otherwise, or asks no more, or no more `you`"}
    )
    min_names_kept: float = field(
        default=1.0, metadata={"help": "rewrites: share of the gold's names and numbers; 0: off"}
    )
    max_names_added: int = field(default=0, metadata={"help": "rewrites: names and numbers the gold has not"})
    refuse_task_talk: bool = field(default=True, metadata={"help": "labels, notes, talk about the reply"})
    max_copied: float = field(default=0.8, metadata={"help": "token F1 with an earlier turn or example; 1: off"})
    refuse_cut_off: bool = field(default=True, metadata={"help": "endings in the middle of a sentence"})
    refuse_loops: bool = field(default=True, metadata={"help": "the same words over and over, or none"})
    refuse_other_language: bool = field(default=True, metadata={"help": "by common words, Latin scripts"})

    def __post_init__(self) -> None:
        """Refuse a ratio of the longer to the shorter reply that none can have.

        Raises:
            ThresholdError: it is below 1.
        """
        if self.max_length_ratio < 1:
            raise ThresholdError(f"max_length_ratio is {self.max_length_ratio}, want 1 or more")


@dataclass(frozen=True)
class Check:
    """One thing that is asked of a candidate.

    Attributes:
        name: what is asked, in a few words.
        reason: why one that fails is dropped, in a few words that can be counted.
        keys: of the recipe, which hold its threshold.
        drops: at which sources it drops candidates: every source; those that are not certain; those of them that
            write the gold reply anew. It is measured everywhere.
        passes: whether a candidate does; None where that cannot be told.
        remedy: what to try where it drops many.
        asks_difference: whether it asks for a difference from the gold reply, which none has that is to be chosen.
    """

    name: str
    reason: str
    keys: tuple[str, ...]
    drops: Literal["all", "uncertain", "rewrites"]
    passes: Callable[[Candidate, Thresholds], bool | None]
    remedy: str
    asks_difference: bool = False


def _has_shifted(candidate: Candidate, limits: Thresholds) -> bool | None:
    shift = candidate.emotion_shift
    return None if shift is None else shift >= limits.min_emotion_shift


def _keeps_content(candidate: Candidate, limits: Thresholds) -> bool:
    """Ask for both: sentences of one topic are near each other by embedding, whoever does what to whom in them."""
    if candidate.similarity < limits.min_rewrite_similarity:
        return False
    return candidate.embedding_similarity is None or candidate.embedding_similarity >= limits.min_embedding_similarity


_A_BETTER_WRITER = "a stronger writer, or more candidates a reply"

CHECKS: tuple[Check, ...] = (
    Check(
        "says something", "empty reply", (), "all",
        lambda candidate, limits: candidate.text.strip() != "", _A_BETTER_WRITER,
    ),
    Check(
        "is not the gold reply", "same text as the gold reply", (), "all",
        lambda candidate, limits: not is_same_text(candidate.gold.text, candidate.text),
        "a writer that does more than echo: a stronger one, a higher temperature", True,
    ),
    Check(
        "labels apart", "emotion labels too near", ("min_emotion_distance",), "all",
        lambda candidate, limits: candidate.pair_scores()["emotion_distance"] >= limits.min_emotion_distance,
        "a lower min_emotion_distance, or another counter_emotion", True,
    ),
    Check(
        "words apart in emotion", "words too alike in emotion", ("min_emotion_divergence",), "all",
        lambda candidate, limits: candidate.emotion_divergence >= limits.min_emotion_divergence,
        "a lower min_emotion_divergence", True,
    ),
    Check(
        "words in common", "content too different", ("min_similarity",), "all",
        lambda candidate, limits: candidate.similarity >= limits.min_similarity, "a lower min_similarity",
    ),
    Check(
        "changed", "content too similar", ("max_similarity",), "all",
        lambda candidate, limits: candidate.similarity <= limits.max_similarity,
        "a writer that changes more: a stronger one, a higher temperature", True,
    ),
    Check(
        "about as long", "length too different", ("max_length_ratio",), "all",
        lambda candidate, limits: 1 / limits.max_length_ratio <= candidate.length_ratio <= limits.max_length_ratio,
        "a higher max_length_ratio, or a writer that keeps to the length",
    ),
    Check(
        "script", "another language's script", ("min_script_share",), "all",
        lambda candidate, limits: candidate.script_share >= limits.min_script_share,
        "a writer that knows the language",
    ),
    Check(
        "counter emotion likelier", "the counter emotion is hardly likelier in it", ("min_emotion_shift",), "uncertain",
        _has_shifted,
        "a better emotion_judge, if its accuracy in the report is low; a stronger writer, or more candidates a "
        "reply; a lower min_emotion_shift", True,
    ),
    Check(
        "content kept", "the content is not kept", ("min_embedding_similarity", "min_rewrite_similarity"), "rewrites",
        _keeps_content, _A_BETTER_WRITER,
    ),
    Check(
        "does what the gold does", "does otherwise", ("refuse_other_acts",), "rewrites",
        lambda candidate, limits: not (limits.refuse_other_acts and candidate.changed_act is not None),
        _A_BETTER_WRITER,
    ),
    Check(
        "names and numbers kept", "names or numbers are lost", ("min_names_kept",), "rewrites",
        lambda candidate, limits: candidate.names.kept >= limits.min_names_kept, _A_BETTER_WRITER,
    ),
    Check(
        "no names or numbers added", "names or numbers are added", ("max_names_added",), "rewrites",
        lambda candidate, limits: candidate.names.added <= limits.max_names_added, _A_BETTER_WRITER,
    ),
    Check(
        "no talk about the task", "talks about the task", ("refuse_task_talk",), "uncertain",
        lambda candidate, limits: not (limits.refuse_task_talk and candidate.task_talk is not None),
        _A_BETTER_WRITER,
    ),
    Check(
        "no copy", "copy of another turn or of an example", ("max_copied",), "uncertain",
        lambda candidate, limits: candidate.copied <= limits.max_copied, _A_BETTER_WRITER,
    ),
    Check(
        "whole to the end", "cut off at the end", ("refuse_cut_off",), "uncertain",
        lambda candidate, limits: not (limits.refuse_cut_off and candidate.is_cut_off),
        "more tokens a reply, or a writer that ends its sentences",
    ),
    Check(
        "no loop", "the same words over and over", ("refuse_loops",), "uncertain",
        lambda candidate, limits: not (limits.refuse_loops and is_degenerate(candidate.text)), _A_BETTER_WRITER,
    ),
    Check(
        "language", "another language", ("refuse_other_language",), "uncertain",
        lambda candidate, limits: not (limits.refuse_other_language and candidate.is_in_another_language),
        "a writer that knows the language",
    ),
)  # fmt: skip
"""Everything that is asked of a candidate, in the order in which reasons are given. Our choice."""


@dataclass(frozen=True)
class Examined:
    """What came of one candidate.

    Attributes:
        candidate: with everything that was measured.
        passed: by the name of each check; None where it could not be told.
        reason: why it may not become a pair, in a few words that can be counted; None if it may.
        quality: the higher, the better among several; see `Examiner.examine`.
    """

    candidate: Candidate
    passed: dict[str, bool | None]
    reason: str | None
    quality: float


class Examiner:
    """Measures candidates, and says which may become pairs and which of several is the best."""

    def __init__(
        self,
        limits: Thresholds,
        reader: EmotionReader,
        encoder: Encoder | None = None,
        keeps_content: bool = False,
        is_certain: bool = False,
    ) -> None:
        """Take the thresholds, and what reads emotions from words.

        Args:
            limits: the thresholds.
            reader: of emotions.
            encoder: of sentences; None: content is compared by tokens.
            keeps_content: whether candidates are to say what the gold reply says: then checks of content drop too.
            is_certain: whether candidates are right by construction: then verification is measured, and drops none.
        """
        self.limits = limits
        self._readings = Readings(reader)
        self._embeddings = None if encoder is None else Embeddings(encoder)
        self._keeps_content = keeps_content
        self.is_certain = is_certain

    def prepare(self, places: Iterable[tuple[Reply, str]]) -> None:
        """Read and embed texts in the places of gold replies at once; one by one would take many times as long."""
        places = list(places)
        self._readings.prepare(places)
        if self._embeddings is not None:
            self._embeddings.prepare(text for _, text in places)

    def accepts(self, gold: Reply, rejected: str, rejected_emotion: Emotion) -> bool:
        """Tell whether a candidate may become a pair; measures no more than that takes."""
        candidate = Candidate(gold, rejected, rejected_emotion, self._readings, self._embeddings)
        return all(check.passes(candidate, self.limits) is not False for check in CHECKS if self.drops(check))

    def read(self, gold: Reply, text: str) -> Floats:
        """Return float64 (E,), the emotions that the judge reads in a text in a gold reply's place."""
        return self._readings.read(gold, text)

    def objection(self, gold: Reply, text: str) -> str | None:
        """Return why a text may not be chosen in a gold reply's place, whose emotion it has; None if it may.

        It must pass what a rewrite must pass, but for the checks that ask for a difference.
        """
        candidate = Candidate(gold, text, gold.known_emotion, self._readings, self._embeddings)
        failed = (c for c in CHECKS if not c.asks_difference and c.passes(candidate, self.limits) is False)
        return next((check.reason for check in failed), None)

    def examine(
        self, gold: Reply, rejected: str, rejected_emotion: Emotion, examples: tuple[str, ...] = ()
    ) -> Examined:
        """Measure a candidate by every check.

        Its quality is the emotion shift, times its likeness to the gold reply (cosine of embeddings, or token F1
        without) where its source keeps content. Where the judge cannot tell the emotion the shift counts as 1. Our
        choice.

        Args:
            gold: the chosen reply.
            rejected: the candidate's words.
            rejected_emotion: the counter emotion.
            examples: replies that its writer was shown.
        """
        candidate = Candidate(gold, rejected, rejected_emotion, self._readings, self._embeddings, examples)
        passed = {check.name: check.passes(candidate, self.limits) for check in CHECKS}
        failed = (check for check in CHECKS if self.drops(check) and passed[check.name] is False)
        first = next(failed, None)
        shift = 1.0 if candidate.emotion_shift is None else candidate.emotion_shift
        quality = shift * (candidate.content_similarity if self._keeps_content else 1.0)
        return Examined(candidate, passed, None if first is None else _reason(first, candidate), quality)

    def drops(self, check: Check) -> bool:
        """Tell whether a check drops candidates of this examiner's source, or is only measured."""
        if check.drops == "all":
            return True
        return not self.is_certain and (check.drops == "uncertain" or self._keeps_content)


def _reason(check: Check, candidate: Candidate) -> str:
    details = {"no talk about the task": candidate.task_talk, "does what the gold does": candidate.changed_act}
    return f"{check.reason}: {details[check.name]}" if check.name in details else check.reason


__all__ = ["CHECKS", "Check", "Examined", "Examiner", "ThresholdError", "Thresholds"]

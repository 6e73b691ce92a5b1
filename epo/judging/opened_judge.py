"""Opened judge: from the settings of a recipe to a judge that is fitted, and how good it is on text held out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epo.data.replies import Reply
from epo.judging.embedding_judge import EmbeddingJudge
from epo.judging.judge import EmotionJudge, JudgeError, JudgeQuality
from epo.judging.labelled_text import LabelledText, count_languages, joined, labelled_replies, read_judge_data, words_of
from epo.judging.named_model import NamedModel, short_name
from epo.judging.word_judge import WordJudge

WORDS_JUDGE, EMBEDDINGS_JUDGE = "words", "embeddings"


@dataclass(frozen=True)
class JudgeSettings:
    """Who reads emotions from words.

    Attributes:
        emotion_judge: "words", "embeddings", or a text-classification model by its folder or hub name.
        judge_embeddings: sentence model of "embeddings".
        judge_data: dialogues.jsonl files with labelled turns, to fit a judge on and to rate any judge on; none: the
            training replies of the corpus at hand.
        judge_cache: folder that keeps embeddings and fitted heads; None keeps nothing.
    """

    emotion_judge: str = WORDS_JUDGE
    judge_embeddings: str | None = None
    judge_data: tuple[str, ...] = ()
    judge_cache: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that lack one another, or would do nothing.

        Raises:
            JudgeError: names the key and the remedy.
        """
        is_embedding = self.emotion_judge == EMBEDDINGS_JUDGE
        if is_embedding and self.judge_embeddings is None:
            raise JudgeError(
                "emotion_judge: embeddings needs a sentence model: set judge_embeddings to a folder or hub name, such "
                "as sentence-transformers/all-MiniLM-L6-v2"
            )
        for key in ("judge_embeddings", "judge_cache"):
            if not is_embedding and getattr(self, key) is not None:
                raise JudgeError(
                    f"{key} would do nothing: emotion_judge is {self.emotion_judge}; set it to embeddings, or leave "
                    f"{key} out"
                )

    @property
    def is_own_words(self) -> bool:
        """Whether it is the judge of words, learnt from the corpus that it judges."""
        return self.emotion_judge == WORDS_JUDGE and not self.judge_data

    @property
    def can_read_gold(self) -> bool:
        """Whether its reading of a gold reply may stand in for a label that is missing: words alone are too weak."""
        return self.emotion_judge != WORDS_JUDGE


@dataclass(frozen=True)
class OpenedJudge:
    """A judge, and how far to trust it.

    Attributes:
        judge: reads emotions from words.
        fitted_on: how many labelled texts it learnt from, by whose they are; empty for a named model.
        qualities: how good it is on texts held out, one for each kind of text; the first are most like those judged.
        notes: sentences for people: what makes the judge doubtful.
        learnt: the texts it learnt from.
    """

    judge: EmotionJudge
    fitted_on: dict[str, int]
    qualities: tuple[JudgeQuality, ...]
    notes: tuple[str, ...] = ()
    learnt: LabelledText = field(default=LabelledText(""), repr=False)

    def unseen(self, replies: Sequence[Reply]) -> list[Reply]:
        """Return the replies it can be rated on: with a person's label, and other words than those it learnt from."""
        known = self.learnt.words
        return [
            reply
            for reply in replies
            if reply.emotion is not None and reply.labelled_by is None and words_of(reply.text) not in known
        ]

    def report(self) -> dict[str, Any]:
        """Return what a report holds of it, ready for JSON."""
        return {
            "name": self.judge.name,
            "fitted_on": self.fitted_on,
            "qualities": [quality.report() for quality in self.qualities],
            "notes": list(self.notes),
        }

    def describe(self) -> str:
        """Return in one sentence, without its subject, what a score by this judge rests on."""
        if not self.qualities:
            return f"the judge {self.judge.name}, whose quality is not known: no labelled text was held out from it."
        text = f"the judge {self.judge.name}: " + "; ".join(quality.describe() for quality in self.qualities) + "."
        if self.says_little:
            text += " That is hardly better than always the commonest label, so what it reads says little."
        return text

    def describe_shortly(self) -> str:
        """Return the same in a few words, for the head of a column; of the texts most like those that are scored."""
        if not self.qualities:
            return "judge not rated"
        quality = self.qualities[0]
        return f"judge {quality.accuracy:.2f}, F1 {quality.macro_f1:.2f}, commonest label {quality.majority:.2f}"

    @property
    def says_little(self) -> bool:
        """Whether it is hardly better than chance on the texts most like those that are scored."""
        return bool(self.qualities) and self.qualities[0].is_hardly_better


def open_judge(settings: JudgeSettings, training: Sequence[Reply], held_out: Sequence[Reply] = ()) -> OpenedJudge:
    """Fit or load a judge, and rate it on labelled text that it was not fitted on.

    Args:
        settings: which judge.
        training: replies of the corpus at hand that it may learn from, where `judge_data` names no file; those with
            an emotion are taken.
        held_out: replies of the corpus at hand to rate it on as well, first of all; those with an emotion are taken.

    Raises:
        JudgeError: there is nothing to fit it on, or only one emotion occurs.
        DataError: a file of `judge_data` is missing or has no label, or a named model has labels that are no emotions.
        PartError: a model cannot be found.
    """
    files = [read_judge_data(path) for path in settings.judge_data]
    fits = settings.emotion_judge in (WORDS_JUDGE, EMBEDDINGS_JUDGE)
    parts = [train for train, _ in files] or [labelled_replies(training, "its own training replies")]
    learnt = joined(parts) if fits else LabelledText("")
    judge = _make(settings, learnt)
    rated = [labelled_replies(held_out, "its own held-out replies"), *(rest for _, rest in files)]
    found = [texts.without(learnt.words).rate(judge) for texts in rated]
    qualities = tuple(quality for quality in found if quality is not None)
    notes = [note for note in (count_languages(learnt),) if note is not None]
    notes += [
        f"The judge of emotions, {judge.name}, is {quality.describe()}. That is hardly better: it says little."
        for quality in qualities
        if quality.is_hardly_better
    ]
    fitted_on = {part.name: len(part.texts) for part in parts} if fits else {}
    return OpenedJudge(judge, fitted_on, qualities, tuple(notes), learnt)


def _make(settings: JudgeSettings, learnt: LabelledText) -> EmotionJudge:
    if settings.emotion_judge == WORDS_JUDGE:
        return WordJudge.fit(learnt.texts, learnt.emotions)
    if settings.emotion_judge != EMBEDDINGS_JUDGE:
        return NamedModel.load(settings.emotion_judge)
    from epo.judging.sentence_encoder import SentenceEncoder

    if len(Counter(learnt.emotions)) < 2:  # before the model is loaded
        found = ", ".join(sorted(set(learnt.emotions))) or "none"
        raise JudgeError(
            f"emotion_judge: embeddings learns from texts of at least two emotions, found {found} in {learnt.name}; "
            "name labelled dialogues in judge_data"
        )
    assert settings.judge_embeddings is not None  # or the settings could not be made
    encoder = SentenceEncoder.load(settings.judge_embeddings)
    cache = None if settings.judge_cache is None else Path(settings.judge_cache)
    name = f"embeddings of {short_name(settings.judge_embeddings)}"
    return EmbeddingJudge.fit(encoder, learnt.texts, learnt.emotions, learnt.groups, name, cache)


__all__ = ["EMBEDDINGS_JUDGE", "WORDS_JUDGE", "JudgeSettings", "OpenedJudge", "open_judge"]

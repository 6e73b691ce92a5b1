"""From replies to a row of the report."""

from collections.abc import Sequence
from typing import Any

from epo.data.dialogue import Dialogue
from epo.emotions import EMOTIONS, Emotion
from epo.evaluation.judge import WordJudge, emotion_score
from epo.evaluation.metrics import (
    bootstrap_interval,
    count_facts,
    distinct_n,
    fact_recall,
    mean_token_f1,
    mean_words,
    rouge_l,
)
from epo.evaluation.report import Row
from epo.model.processing import split_reply
from epo.training.examples import Example


class ReplyScorer:
    """Scores replies to one set of examples; the gold stays that of the unchanged example."""

    def __init__(self, examples: Sequence[Example], dialogues: dict[str, Dialogue], judge: WordJudge) -> None:
        self._golds = [example.reply for example in examples]
        self._wanted: list[Emotion | None] = [example.reply_emotion for example in examples]
        self._users = [str(example.current.emotion) for example in examples]
        self._facts = [dialogues[example.dialogue_id].facts.get(example.turn, ()) for example in examples]
        self._judge = judge

    def row(self, name: str, replies: Sequence[str], **values: Any) -> Row:
        """Score greedy replies, each with its label.

        Args:
            name: of the row.
            replies: one for each example.
            values: further fields of `Row`.
        """
        words = [split_reply(reply)[1] for reply in replies]
        judged, wanted, users = self._judged(words)
        hits = [float(a == b) for a, b in zip(judged, wanted, strict=True)]
        dist1, dist1_corpus = distinct_n(words, 1)
        dist2, dist2_corpus = distinct_n(words, 2)
        return Row(
            name=name,
            emotion_score=emotion_score(judged, wanted) if wanted else None,
            emotion_score_interval=bootstrap_interval(hits) if hits else None,
            per_emotion=_score_by_user(hits, users),
            token_f1=mean_token_f1(words, self._golds),
            rouge_l=rouge_l(words, self._golds),
            distinct_1=dist1,
            distinct_1_corpus=dist1_corpus,
            distinct_2=dist2,
            distinct_2_corpus=dist2_corpus,
            mean_reply_words=mean_words(words),
            **self._fact_scores(words),
            **values,
        )

    def sampled(self, replies: Sequence[str]) -> dict[str, float | None]:
        """Return the fields of `Row` that sampled replies fill."""
        words = [split_reply(reply)[1] for reply in replies]
        judged, wanted, _ = self._judged(words)
        return {
            "emotion_score_sampled": emotion_score(judged, wanted) if wanted else None,
            "fact_recall_sampled": fact_recall(words, self._facts) if any(self._facts) else None,
        }

    def _judged(self, words: Sequence[str]) -> tuple[list[Emotion], list[Emotion], list[str]]:
        """Judge the replies whose gold has an emotion."""
        judged = self._judge.predict(words)
        kept = [(j, w, u) for j, w, u in zip(judged, self._wanted, self._users, strict=True) if w is not None]
        return [j for j, _, _ in kept], [w for _, w, _ in kept], [u for _, _, u in kept]

    def _fact_scores(self, words: Sequence[str]) -> dict[str, Any]:
        if not any(self._facts):
            return {}
        shares = [count_facts(w, f) / len(f) if f else 0.0 for w, f in zip(words, self._facts, strict=True)]
        weights = [float(len(f)) for f in self._facts]
        return {
            "fact_recall": fact_recall(words, self._facts),
            "fact_recall_interval": bootstrap_interval(shares, weights),
        }


def _score_by_user(hits: Sequence[float], users: Sequence[str]) -> dict[str, float]:
    """Mean score by the user's emotion."""
    groups: dict[str, list[float]] = {}
    for hit, user in zip(hits, users, strict=True):
        groups.setdefault(user, []).append(hit)
    return {emotion: sum(groups[emotion]) / len(groups[emotion]) for emotion in EMOTIONS if emotion in groups}

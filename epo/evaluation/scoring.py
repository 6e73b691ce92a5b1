"""From replies to a row of the report."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.evaluation.bert_score import BertEncoder
from epo.evaluation.degenerate import is_degenerate
from epo.evaluation.judge import WordJudge
from epo.evaluation.metrics import (
    bootstrap_interval,
    count_facts,
    distinct_n,
    mean_words,
    rouge_l,
    token_f1,
)
from epo.evaluation.report import Cell, Row
from epo.prompts.emotion_label import split_reply


class ReplyScorer:
    """Scores replies to one set of examples; the gold stays that of the unchanged example.

    A degenerate reply scores 0 wherever it could gain (every score but lengths and the corpus's Dist-n, where leaving
    it out would be the gain), and is counted.
    """

    def __init__(
        self,
        examples: Sequence[Reply],
        judge: WordJudge,
        bert: BertEncoder | None = None,
    ) -> None:
        """Take what is answered, and what reads the replies; `bert` None leaves BERTScore out."""
        self._golds = [example.text for example in examples]
        self._wanted: list[Emotion | None] = [example.emotion for example in examples]
        self._users = [example.current.emotion for example in examples]
        self._dialogue_ids = [example.dialogue_id for example in examples]
        self._facts = [example.facts for example in examples]
        self._judge, self._bert = judge, bert

    def row(self, name: str, replies: Sequence[str], **values: Any) -> Row:
        """Score greedy replies, each with its label.

        Args:
            name: of the row.
            replies: one for each example.
            values: further fields of `Row`.
        """
        words = [split_reply(reply)[1] for reply in replies]
        counted = ["" if is_degenerate(said) else said for said in words]
        f1s = [token_f1(said, gold) if said else 0.0 for said, gold in zip(counted, self._golds, strict=True)]
        scores = {
            **self._emotion_scores(counted),
            **self._fact_scores(counted),
            **scored("token_f1", f1s, self._dialogue_ids),
        }
        if self._bert is not None:
            scores |= scored("bert_score", self._bert.f1s(counted, self._golds), self._dialogue_ids)
        for n in (1, 2):
            scores[f"distinct_{n}"], scores[f"distinct_{n}_corpus"] = distinct_n(counted, n)[0], distinct_n(words, n)[1]
        return Row(
            name=name,
            degenerate=counted.count("") / len(counted),
            rouge_l=rouge_l(counted, self._golds),
            mean_reply_words=mean_words(words),
            by_gold_emotion=self._cells(counted, self._wanted),
            by_user_emotion=self._cells(counted, self._users),
            **scores,
            **values,
        )

    def sampled(self, replies: Sequence[str]) -> dict[str, Any]:
        """Return the fields of `Row` that sampled replies fill."""
        words = [split_reply(reply)[1] for reply in replies]
        counted = ["" if is_degenerate(said) else said for said in words]
        return {
            "degenerate_sampled": counted.count("") / len(counted),
            **self._emotion_scores(counted, "emotion_score_sampled"),
            **self._fact_scores(counted, "fact_recall_sampled"),
        }

    def _hits(self, words: Sequence[str]) -> list[float | None]:
        """Return 1 or 0 for each reply, None where the emotion of its gold is not known."""
        judged = self._judge.predict(words)
        return [None if want is None else float(j == want) for j, want in zip(judged, self._wanted, strict=True)]

    def _emotion_scores(self, words: Sequence[str], name: str = "emotion_score") -> dict[str, Any]:
        hits = zip(self._hits(words), self._dialogue_ids, strict=True)
        known = [(hit, dialogue) for hit, dialogue in hits if hit is not None]
        return scored(name, [hit for hit, _ in known], [dialogue for _, dialogue in known])

    def _cells(self, words: Sequence[str], emotions: Sequence[Emotion | None]) -> dict[str, Cell]:
        """Return EmotionScore by an emotion of each example, such as the one its gold reply has."""
        groups: dict[Emotion, list[tuple[float, str]]] = {}
        for hit, emotion, dialogue in zip(self._hits(words), emotions, self._dialogue_ids, strict=True):
            if hit is not None and emotion is not None:
                groups.setdefault(emotion, []).append((hit, dialogue))
        return {emotion: _cell(groups[emotion]) for emotion in EMOTIONS if emotion in groups}

    def _fact_scores(self, words: Sequence[str], name: str = "fact_recall") -> dict[str, Any]:
        shares = [count_facts(w, f) / len(f) if f else 0.0 for w, f in zip(words, self._facts, strict=True)]
        return scored(name, shares, self._dialogue_ids, [float(len(facts)) for facts in self._facts])


def scored(
    name: str, values: Sequence[float], dialogues: Sequence[Hashable], weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return a (weighted) mean as `name`, and its interval over dialogues as `name_interval`.

    Both are None where nothing counts; the interval also where all is of one dialogue, which says nothing of others.
    """
    sizes = np.ones(len(values)) if weights is None else np.asarray(weights)
    if not sizes.any():
        return {name: None, f"{name}_interval": None}
    has_others = len({dialogue for dialogue, size in zip(dialogues, sizes, strict=True) if size > 0}) > 1
    return {
        name: float(np.average(values, weights=sizes)),
        f"{name}_interval": bootstrap_interval(values, weights, dialogues) if has_others else None,
    }


def _cell(hits: Sequence[tuple[float, str]]) -> Cell:
    values, dialogues = [hit for hit, _ in hits], [name for _, name in hits]
    found = scored("score", values, dialogues)
    return Cell(found["score"], found["score_interval"], len(hits), len(set(dialogues)))

"""A candidate for a rejected reply, and what is measured of it, each number when it is first asked for."""

from functools import cached_property

import numpy as np

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion, emotional_distance
from epo.preferences.acts import changed_act
from epo.preferences.embedding import Embeddings
from epo.preferences.endings import is_cut_off
from epo.preferences.language_guess import guess_language
from epo.preferences.marginals import Floats
from epo.preferences.names_and_numbers import Comparison, compare_mentions
from epo.preferences.readings import Readings
from epo.preferences.scores import highest_similarity, length_ratio, script_share, similarity
from epo.preferences.task_talk import find_task_talk


class Candidate:
    """One candidate for the rejected reply in a gold reply's place."""

    def __init__(
        self,
        gold: Reply,
        text: str,
        emotion: Emotion,
        readings: Readings,
        embeddings: Embeddings | None = None,
        examples: tuple[str, ...] = (),
    ) -> None:
        """Take what is to be measured; nothing is measured yet.

        Args:
            gold: the chosen reply.
            text: of the candidate.
            emotion: the counter emotion it was asked for in.
            readings: emotions read from words.
            embeddings: of sentences; None where no model for them was named.
            examples: replies that its writer was shown, none of which it may hand back.
        """
        self.gold, self.text, self.emotion = gold, text, emotion
        self._readings, self._embeddings, self._examples = readings, embeddings, examples

    def pair_scores(self) -> dict[str, float]:
        """Return what is said of every pair, whatever its source.

        Returns:
            emotion_distance, of the two labels in the valence-arousal plane, in [0, 2.83];
            emotion_divergence, total variation of the emotions read from the two texts, in [0, 1];
            similarity, token F1 of the two texts, in [0, 1];
            length_ratio, tokens of the rejected reply over tokens of the gold one;
            script_share, share of the rejected reply's letters that are in the gold's main script, in [0, 1].

        Source: our choice.
        """
        return {
            "emotion_distance": emotional_distance(self.gold.known_emotion, self.emotion),
            "emotion_divergence": self.emotion_divergence,
            "similarity": self.similarity,
            "length_ratio": self.length_ratio,
            "script_share": self.script_share,
        }

    def verification_scores(self) -> dict[str, float]:
        """Return what verification measures besides, as far as it can be told.

        Returns:
            counter_in_chosen and counter_in_rejected, the judge's probability of the counter emotion in either reply;
            emotion_shift, the second less the first, in [-1, 1]; embedding_similarity, cosine of the two texts, in
            [-1, 1]; names_kept and names_added, of names and numbers (`compare_mentions`).
        """
        found: dict[str, float] = {}
        if self.emotion_shift is not None:
            chosen, rejected = self.counter_probabilities
            found |= {"counter_in_chosen": chosen, "counter_in_rejected": rejected, "emotion_shift": rejected - chosen}
        if self.embedding_similarity is not None:
            found["embedding_similarity"] = self.embedding_similarity
        return found | {"names_kept": self.names.kept, "names_added": float(self.names.added)}

    @property
    def emotion_divergence(self) -> float:
        """Total variation of the emotions read from the two texts, in [0, 1]."""
        chosen, rejected = self._read
        return float(np.abs(chosen - rejected).sum() / 2)

    @property
    def counter_probabilities(self) -> tuple[float, float]:
        """What the judge makes of the counter emotion in the gold reply and in the candidate, in [0, 1] each."""
        chosen, rejected = self._read
        place = EMOTIONS.index(self.emotion)
        return float(chosen[place]), float(rejected[place])

    @property
    def emotion_shift(self) -> float | None:
        """How much likelier the counter emotion is in the candidate; None where the judge cannot tell that emotion."""
        if not self._readings.can_tell(self.emotion):
            return None
        chosen, rejected = self.counter_probabilities
        return rejected - chosen

    @cached_property
    def similarity(self) -> float:
        """Token F1 with the gold reply, in [0, 1]."""
        return similarity(self.gold.text, self.text)

    @cached_property
    def embedding_similarity(self) -> float | None:
        """Cosine of the two texts' sentence embeddings; None where no model for them was named."""
        return None if self._embeddings is None else self._embeddings.similarity(self.gold.text, self.text)

    @property
    def content_similarity(self) -> float:
        """By embeddings where there are some, else by tokens; what pulls apart is no similarity: 0 at least."""
        return self.similarity if self.embedding_similarity is None else max(0.0, self.embedding_similarity)

    @property
    def length_ratio(self) -> float:
        """Words of the candidate over words of the gold reply."""
        return length_ratio(self.gold.text, self.text)

    @property
    def script_share(self) -> float:
        """Share of the candidate's letters in the gold reply's script."""
        return script_share(self.gold.text, self.text)

    @cached_property
    def names(self) -> Comparison:
        """Names and numbers against those of the gold reply."""
        return compare_mentions(self.gold.text, self.text, self.gold.language)

    @cached_property
    def changed_act(self) -> str | None:
        """What it does otherwise than the gold reply: deny, ask, speak to the listener."""
        return changed_act(self.gold.text, self.text)

    @cached_property
    def task_talk(self) -> str | None:
        """What in it speaks of the task."""
        return find_task_talk(self.gold.text, self.text)

    @cached_property
    def copied(self) -> float:
        """Token F1 with the likest turn before it, or with a worked example; 0 where the gold reply is as like."""
        turns = tuple(turn.text for turn in (*self.gold.history, self.gold.current))
        highest = highest_similarity(self.text, turns + self._examples)
        return highest if highest > self.similarity else 0.0

    @property
    def is_cut_off(self) -> bool:
        """Whether it ends where the gold reply would not."""
        return is_cut_off(self.gold.text, self.text)

    @property
    def is_in_another_language(self) -> bool:
        """Whether both texts' languages can be guessed, and differ."""
        own, other = guess_language(self.gold.text), guess_language(self.text)
        return own is not None and other is not None and own != other

    @cached_property
    def _read(self) -> tuple[Floats, Floats]:
        return self._readings.read(self.gold, self.gold.text), self._readings.read(self.gold, self.text)


__all__ = ["Candidate"]

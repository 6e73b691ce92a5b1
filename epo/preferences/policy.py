"""Source `policy`: the tuned model itself answers, made to begin with the label of the counter emotion."""

from collections.abc import Callable, Sequence

from compressor.progress import Progress
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.answer_cache import AnswerCache, question_key

Writer = Callable[[Sequence[Reply], Sequence[Emotion], int], list[str]]
"""(gold replies, emotions to begin with, seed) -> the words written in their places, without the label."""


class PolicySource:
    """Lets a model write in batches and keeps every finished batch: a killed run goes on where it was.

    What the model would say itself, only in the wrong emotion, is the nearest rejected reply there is; but it is only
    as divergent as the model heeds its own label: look at `emotion_divergence`.
    """

    name = "policy"

    def __init__(self, write: Writer, identity: str, cache: AnswerCache, batch_size: int, seed: int) -> None:
        """Prepare, without loading anything.

        Args:
            write: writes one batch; the same arguments must give the same words.
            identity: what the words depend on besides the arguments: the model and how it is sampled.
            cache: words of earlier runs, and of this one.
            batch_size: replies written at a time.
            seed: of sampling.
        """
        self._write = write
        self._identity = identity
        self._cache = cache
        self._batch_size = batch_size
        self._seed = seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be asked for."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one reply for each gold reply and counter emotion; none where the model wrote nothing."""
        found: list[list[str]] = []
        progress = Progress("policy", len(gold), "replies")
        for start in range(0, len(gold), self._batch_size):
            part = slice(start, start + self._batch_size)
            found += [[text] if text.strip() else [] for text in self._batch(gold[part], emotions[part])]
            progress.advance(len(gold[part]))
        progress.close()
        return found

    def _batch(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[str]:
        """Return the words of one batch, all from the cache or all written anew: sampling depends on the batch."""
        rows = [[reply.dialogue_id, reply.turn, emotion] for reply, emotion in zip(gold, emotions, strict=True)]
        # The batch is part of each key, or a run with another batch size would mix its words with these.
        keys = [question_key(identity=self._identity, seed=self._seed, batch=rows, place=i) for i in range(len(rows))]
        known = [text for key in keys if (text := self._cache.get(key)) is not None]
        if len(known) == len(keys):
            return known
        texts = self._write(gold, emotions, int(keys[0][:8], 16))
        for key, text in zip(keys, texts, strict=True):
            self._cache.put(key, text)
        return texts

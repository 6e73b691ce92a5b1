"""Source `opposite_random`: the reply of any other dialogue that has the counter emotion; EmPO's baseline."""

import random
from collections.abc import Sequence

from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.preferences.source import NoSettings, PairSource

_TRIES = 5


class OppositeRandomSource:
    """Takes replies regardless of their context, so pairs can be told apart by topic; kept to compare with.

    Source: EmPO, arXiv 2406.19071, with one rejected reply a prompt instead of three.
    """

    name = "opposite_random"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Return the emotions some reply of the pool has."""
        return frozenset(reply.known_emotion for reply in gold)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return up to five replies of other dialogues in the counter emotion, at random."""
        pool: dict[tuple[str, Emotion], list[Reply]] = {}
        for reply in gold:
            pool.setdefault((reply.language, reply.known_emotion), []).append(reply)
        return [
            self._draw(reply, pool.get((reply.language, emotion), []))
            for reply, emotion in zip(gold, emotions, strict=True)
        ]

    def _draw(self, reply: Reply, pool: Sequence[Reply]) -> list[str]:
        rng = random.Random(f"{self._seed}/{reply.dialogue_id}/{reply.turn}")
        drawn = rng.sample(pool, min(2 * _TRIES, len(pool)))
        return [other.text for other in drawn if other.dialogue_id != reply.dialogue_id][:_TRIES]


SOURCE = PairSource(
    about="any reply of the counter emotion; EmPO's baseline, to compare with",
    settings=NoSettings,
    make=lambda settings, context: OppositeRandomSource(context.seed),
)

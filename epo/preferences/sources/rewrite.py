"""Source `rewrite`: the built-in corpus's own replies, with the same content put in another emotion."""

import random
from collections.abc import Sequence

from epo.data.corpora.builtin.reply_wording import rewrite_reply
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.source import NoSettings, PairSource


class RewriteSource:
    """Writes counter-emotional replies by the rules the built-in corpus was written by."""

    name = "rewrite"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be written."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one rejected reply for each gold reply and counter emotion.

        Raises:
            DataError: a reply was not written by the built-in corpus.
        """
        return [[self._rewrite(reply, emotion)] for reply, emotion in zip(gold, emotions, strict=True)]

    def _rewrite(self, reply: Reply, emotion: Emotion) -> str:
        # A generator for each reply: what is drawn for one does not hang on which others are asked for.
        rng = random.Random(f"{self._seed}/{reply.dialogue_id}/{reply.turn}")
        return rewrite_reply(reply.text, emotion, rng)


SOURCE = PairSource(
    about="the built-in corpus's replies, same facts, another emotion",
    settings=NoSettings,
    make=lambda settings, context: RewriteSource(context.seed),
    keeps_content=True,
    is_certain=True,
)

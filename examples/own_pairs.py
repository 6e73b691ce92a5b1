"""Build pairs with a source of your own: `python examples/own_pairs.py DIALOGUES PAIRS`.

This one answers a user in the counter emotion with a set phrase; a source that is asked for by a recipe's `source` key
is one more step: docs/preferences.md.
"""

import sys

import epo
from epo.emotions import EMOTIONS


class SetPhrases:
    """One phrase an emotion, whatever was said."""

    name = "set_phrases"

    def available(self, gold):
        """Every emotion can be named."""
        return frozenset(EMOTIONS)

    def propose(self, gold, emotions):
        """Return one candidate for each reply and its counter emotion."""
        return [[f"Well, all of that makes me {emotion}."] for emotion in emotions]


replies = epo.replies_of(epo.read_dialogues(sys.argv[1]), "last")
built = epo.build_pairs([reply for reply in replies if reply.emotion is not None], SetPhrases())
print(epo.write_pairs(sys.argv[2], built.pairs), "pairs,", sum(built.dropped.values()), "replies without one")

"""Replies as the compressor learns from them: past turns, the prompt around their memories, and what is to be said."""

from compressor.data import History
from epo.data.replies import Reply
from epo.prompts.emotion_label import reply_text
from epo.prompts.layout import Layout
from epo.prompts.part import Asked
from epo.prompts.past_turns import utterance_of


def history_of(reply: Reply, layout: Layout, names_emotion: bool) -> History:
    """Write a reply as the compressor and the frozen language model read it.

    Args:
        reply: with what leads to it.
        layout: of the model that is to read the memories.
        names_emotion: whether the user's emotion, if known, is told as a word; no clip is shown.
    """
    turns = tuple(utterance_of(turn, layout.history_emotions) for turn in reply.history)
    fixed = layout.fixed(Asked(reply.history, reply.current, names_emotion=names_emotion))
    return History(turns, fixed, reply_text(reply.text, reply.emotion))


__all__ = ["history_of"]

"""EmotionTalk: acted Chinese dialogues of two, with sound and pictures; labels and words in one table.

Source: Sun et al. 2025, arXiv 2505.23018; https://github.com/NKU-HLT/EmotionTalk.
"""

import re

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "emotiontalk",
    "EmotionTalk: the seven, in other forms of the words; one to one.",
    {
        "angry": "angry", "disgusted": "disgust", "fearful": "fearful", "happy": "happy", "neutral": "neutral",
        "sad": "sad", "surprised": "surprised",
    },
)  # fmt: skip
_TABLE = Table(
    "emotiontalk",
    {
        "dialogue": "{session}_{talk}",
        "order": "turn",
        "speaker": "actor",
        "text": "chinese",
        "emotion": "emotion",
        "group": "session",
    },
    {"**/transcription.csv": None},
    _LABELS,
    audio="wav/{name}.wav",
    video="mp4/{name}.mp4",
    # G00009/G00009_42/G00009_42_14/G00009_42_14_024: session, dialogue of it, actor, place in the dialogue
    patterns=[("name", re.compile(r"(?P<session>G\d+)_(?P<talk>\d+)_(?P<actor>\d+)_(?P<turn>\d+)$"))],
    remove=re.compile(r"\[/?\w+/?\]"),  # [over/]spoken at the same time[/over], [laughing], [interrupted]
    language="zh",
)

CORPORA = (
    Corpus(
        "emotiontalk",
        "EmotionTalk: acted Chinese dialogues of 19 actors, with sound and pictures",
        "for academic use: see github.com/NKU-HLT/EmotionTalk before sharing",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

"""RAVDESS: two sentences spoken and sung by 24 actors in eight feelings; file names say it all.

Source: Livingstone and Russo 2018, PLOS ONE 13(5) e0196391; https://zenodo.org/record/1188976.
"""

import re

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "ravdess",
    "RAVDESS: the third number of a file's name; calm counts as neutral (our choice).",
    {
        "01": "neutral", "02": "neutral", "03": "happy", "04": "sad", "05": "angry", "06": "fearful", "07": "disgust",
        "08": "surprised",
    },
)  # fmt: skip
_TABLE = Table(
    "ravdess",
    {
        "text": "statement", "emotion": "emotion", "speaker": "actor", "group": "actor",
        "description": "{channel} with {intensity} intensity",
    },
    # 02 are the pictures of 01 without the sound
    {"**/0[13]-0[12]-*.[wm][ap]*": None},
    _LABELS,
    audio="{path}",
    video="{path}",
    patterns=[
        (
            "name",
            re.compile(
                r"^(?P<modality>0[13])-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<statement>\d\d)-\d\d-"
                r"(?P<actor>\d\d)$"
            ),
        )
    ],
    values={
        "channel": {"01": "spoken", "02": "sung"},
        "intensity": {"01": "normal", "02": "strong"},
        "statement": {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."},
    },
)  # fmt: skip

CORPORA = (
    Corpus(
        "ravdess",
        "RAVDESS: clips of 24 actors in eight feelings, one turn each",
        "CC BY-NC-SA 4.0",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

"""RECCON: dialogues of DailyDialog (and IEMOCAP) in which the causes of feelings were marked; read for its labels.

Source: Poria et al. 2021, arXiv 2012.11820; https://github.com/declare-lab/RECCON.
"""

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "reccon",
    "RECCON: nouns of DailyDialog, adjectives of IEMOCAP; excited counts as happy, frustrated as angry (our choice).",
    {
        "neutral": "neutral", "happiness": "happy", "happines": "happy", "happy": "happy", "excited": "happy",
        "anger": "angry", "angry": "angry", "frustrated": "angry", "surprise": "surprised", "surprised": "surprised",
        "sadness": "sad", "sad": "sad", "disgust": "disgust", "fear": "fearful",
    },
)  # fmt: skip
_TABLE = Table(
    "reccon",
    {"dialogue": "key", "order": "turn", "speaker": "speaker", "text": "utterance", "emotion": "emotion"},
    {
        "**/dailydialog_train.json": "train",
        "**/dailydialog_valid.json": "validation",
        "**/dailydialog_test.json": "test",
    },
    _LABELS,
    rows=("*",),
    needs_all_files=False,
)

CORPORA = (
    Corpus(
        "reccon",
        "RECCON: 1,106 dialogues of DailyDialog with feelings, text only",
        "no licence is stated: see github.com/declare-lab/RECCON before sharing",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

"""CPED: Chinese television dialogues with 13 feelings and 19 dialogue acts an utterance, text only.

Source: Chen et al. 2022, arXiv 2205.14727; https://github.com/scutcyr/CPED.
"""

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "cped",
    "CPED: 13 feelings; our choice. Relaxed counts as neutral, as calm does elsewhere; the two rests, positive-other "
    "and negative-other, are left out.",
    {
        "happy": "happy", "grateful": "happy", "relaxed": "neutral", "positive-other": None, "neutral": "neutral",
        "anger": "angry", "sadness": "sad", "fear": "fearful", "depress": "sad", "disgust": "disgust",
        "astonished": "surprised", "worried": "fearful", "negative-other": None,
    },
)  # fmt: skip
_TABLE = Table(
    "cped",
    {
        "dialogue": "Dialogue_ID", "order": "Utterance_ID", "speaker": "Speaker", "text": "Utterance",
        "emotion": "Emotion", "strategy": "DA", "group": "TV_ID",
    },
    {"**/train_split.csv": "train", "**/valid_split.csv": "validation", "**/test_split.csv": "test"},
    _LABELS,
    language="zh",
    needs_all_files=False,
)  # fmt: skip

CORPORA = (
    Corpus(
        "cped",
        "CPED: 11,835 Chinese television dialogues with 13 feelings, text only",
        "code Apache-2.0, texts of TV series: see github.com/scutcyr/CPED before sharing",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

"""CREMA-D: twelve sentences spoken by 91 actors in six feelings; file names say it all.

Source: Cao et al. 2014, 10.1109/TAFFC.2014.2336244; https://github.com/CheyneyComputerScience/CREMA-D.
"""

import re

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "crema_d",
    "CREMA-D: the feeling that the actor was asked for, not the raters' vote; one to one.",
    {"ang": "angry", "dis": "disgust", "fea": "fearful", "hap": "happy", "neu": "neutral", "sad": "sad"},
)
_SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_TABLE = Table(
    "crema_d",
    {"text": "sentence", "emotion": "emotion", "speaker": "actor", "group": "actor"},
    {"AudioWAV/*.wav": None},
    _LABELS,
    audio="{path}",
    video="VideoFlash/{name}.flv",
    # the level is LO, MD, HI or XX, and one file has a single X
    patterns=[("name", re.compile(r"^(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_[A-Z]+$"))],
    values={"sentence": _SENTENCES},
)

CORPORA = (
    Corpus(
        "crema_d",
        "CREMA-D: 7,442 clips of 91 actors in six feelings, one turn each",
        "Open Database License 1.0",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

"""EMO-DB: ten German sentences spoken by ten actors in seven feelings; file names say it all.

Source: Burkhardt et al. 2005, 10.21437/Interspeech.2005-446; http://emodb.bilderbar.info.
"""

import re

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

EMODB_LABELS = LabelMap(
    "emodb",
    "EMO-DB: the letter in a file's name, or the word; boredom counts as neutral (our choice).",
    {
        "w": "angry", "l": "neutral", "e": "disgust", "a": "fearful", "f": "happy", "t": "sad", "n": "neutral",
        "anger": "angry", "boredom": "neutral", "disgust": "disgust", "anxiety": "fearful", "fear": "fearful",
        "happiness": "happy", "sadness": "sad", "neutral": "neutral",
    },
)  # fmt: skip
_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_TABLE = Table(
    "emodb",
    {"text": "sentence", "emotion": "emotion", "speaker": "actor", "group": "actor"},
    {"**/[01][0-9][ab][0-9][0-9][A-Z]*.[wf]*": None},
    EMODB_LABELS,
    audio="{path}",
    patterns=[("name", re.compile(r"^(?P<actor>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]?$"))],
    values={"sentence": _SENTENCES},
    language="de",
)

CORPORA = (
    Corpus(
        "emodb",
        "EMO-DB: 535 clips of ten German actors in seven feelings, one turn each",
        "republished under CC0-1.0; see emodb.bilderbar.info",
        _TABLE.read,
        EMODB_LABELS,
    ),
)

__all__ = ["CORPORA", "EMODB_LABELS"]

"""EmoryNLP: 97 episodes of *Friends* with seven feelings of Willcox's wheel an utterance, text only.

Source: Zahiri and Choi 2018, arXiv 1708.04299; https://github.com/emorynlp/emotion-detection.
"""

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.table import Table
from epo.data.labels import LabelMap

_LABELS = LabelMap(
    "emorynlp",
    "EmoryNLP: seven feelings of Willcox's wheel; our choice. Peaceful (from content to tender) and powerful (from "
    "proud to respected) are none of the seven and are left out.",
    {
        "joyful": "happy", "mad": "angry", "neutral": "neutral", "peaceful": None, "powerful": None, "sad": "sad",
        "scared": "fearful",
    },
)  # fmt: skip
_TABLE = Table(
    "emorynlp",
    {
        "dialogue": "scene_id", "order": "utterance_id", "speaker": "speakers", "text": "transcript",
        "emotion": "emotion", "group": "episode_id",
    },
    {
        "**/emotion-detection-trn.json": "train",
        "**/emotion-detection-dev.json": "validation",
        "**/emotion-detection-tst.json": "test",
    },
    _LABELS,
    rows=("episodes", "scenes", "utterances"),
    needs_all_files=False,
)  # fmt: skip

CORPORA = (
    Corpus(
        "emorynlp",
        "EmoryNLP: 897 scenes of Friends with seven feelings, text only",
        "see github.com/emorynlp/emotion-detection; transcripts of a TV series: check the terms before sharing",
        _TABLE.read,
        _LABELS,
    ),
)

__all__ = ["CORPORA"]

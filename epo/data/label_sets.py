"""Label sets that are no one corpus's reader's own: the usual words, and published sets of 20, 27, 32 and 40 classes.

Where a paper maps its labels to the six basic emotions, that is taken; every other choice is ours. What is none of
the seven, or two of them, is left out.
"""

from epo.data.labels import LabelMap
from epo.emotions import EMOTIONS, Emotion

WORDS = LabelMap(
    "words",
    "The usual words for the seven emotions, as corpora and classifiers write them; our choice.",
    {name: name for name in EMOTIONS}
    | {
        "anger": "angry", "mad": "angry", "annoyed": "angry", "annoyance": "angry", "furious": "angry",
        "frustrated": "angry", "frustration": "angry", "ang": "angry",
        "disgusted": "disgust", "disgusting": "disgust", "dis": "disgust",
        "fear": "fearful", "afraid": "fearful", "scared": "fearful", "anxious": "fearful", "anxiety": "fearful",
        "worried": "fearful", "fea": "fearful",
        "joy": "happy", "joyful": "happy", "happiness": "happy", "excited": "happy", "excitement": "happy",
        "hap": "happy", "exc": "happy",
        "no emotion": "neutral", "boredom": "neutral", "calm": "neutral", "neu": "neutral",
        "sadness": "sad",
        "surprise": "surprised", "surprising": "surprised", "astonished": "surprised", "sur": "surprised",
    },
)  # fmt: skip

# Demszky et al. 2020, arXiv 2005.00547, group 27 labels by the six basic emotions (its ekman_mapping.json).
_GOEMOTIONS: dict[Emotion, str] = {
    "angry": "anger annoyance disapproval",
    "disgust": "disgust",
    "fearful": "fear nervousness",
    "happy": "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief",
    "neutral": "neutral",
    "sad": "disappointment embarrassment grief remorse sadness",
    "surprised": "confusion curiosity realization surprise",
}
GOEMOTIONS = LabelMap(
    "goemotions",
    "GoEmotions: 27 labels and neutral, as its paper groups them (arXiv 2005.00547).",
    {label: emotion for emotion, labels in _GOEMOTIONS.items() for label in labels.split()},
)

EMPATHETIC = LabelMap(
    "empathetic",
    "EmpatheticDialogues: 32 feelings of the speaker; our choice. Left out: two feelings at once (anticipating, "
    "impressed, jealous, nostalgic, sentimental) or an attitude more than a feeling (faithful, prepared, trusting).",
    {
        "afraid": "fearful", "angry": "angry", "annoyed": "angry", "anticipating": None, "anxious": "fearful",
        "apprehensive": "fearful", "ashamed": "sad", "caring": "happy", "confident": "happy", "content": "happy",
        "devastated": "sad", "disappointed": "sad", "disgusted": "disgust", "embarrassed": "sad", "excited": "happy",
        "faithful": None, "furious": "angry", "grateful": "happy", "guilty": "sad", "hopeful": "happy",
        "impressed": None, "jealous": None, "joyful": "happy", "lonely": "sad", "nostalgic": None, "prepared": None,
        "proud": "happy", "sad": "sad", "sentimental": None, "surprised": "surprised", "terrified": "fearful",
        "trusting": None,
    },
)  # fmt: skip

EMONET = LabelMap(
    "emonet",
    "EmoNet-Face and EmoNet-Voice: 40 classes; our choice. Left out: bodily states, wishes, and what may be felt with "
    "any of the seven (confusion, doubt, envy, teasing).",
    {
        "amusement": "happy", "elation": "happy", "pleasure/ecstasy": "happy", "contentment": "happy",
        "thankfulness/gratitude": "happy", "affection": "happy", "infatuation": "happy",
        "hope/enthusiasm/optimism": "happy", "triumph": "happy", "pride": "happy", "interest": "neutral",
        "awe": "surprised", "astonishment/surprise": "surprised", "concentration": "neutral",
        "contemplation": "neutral", "relief": "happy", "longing": None, "teasing": None,
        "impatience and irritability": "angry", "sexual lust": None, "doubt": None, "fear": "fearful",
        "distress": "fearful", "confusion": None, "embarrassment": "sad", "shame": "sad", "disappointment": "sad",
        "sadness": "sad", "bitterness": "angry", "contempt": "disgust", "disgust": "disgust", "anger": "angry",
        "malevolence/malice": "angry", "sourness": None, "pain": None, "helplessness": "sad",
        "fatigue/exhaustion": None, "emotional numbness": None, "intoxication/altered states of consciousness": None,
        "jealousy & envy": None,
    },
)  # fmt: skip

DEEPDIALOGUE = LabelMap(
    "deepdialogue",
    "DeepDialogue: 20 emotions; our choice. Sixteen were read in its published dialogues, the last four are those of "
    "its voices: its paper's own list was not to be had.",
    {
        "amused": "happy", "anxious": "fearful", "confused": None, "curious": "neutral", "disappointed": "sad",
        "enthusiastic": "happy", "excited": "happy", "frustrated": "angry", "grateful": "happy", "happy": "happy",
        "hopeful": "happy", "proud": "happy", "relaxed": "neutral", "sad": "sad", "surprised": "surprised",
        "worried": "fearful",
        "angry": "angry", "disgusted": "disgust", "fearful": "fearful", "neutral": "neutral",
    },
)  # fmt: skip

LABEL_SETS: tuple[LabelMap, ...] = (WORDS, DEEPDIALOGUE, GOEMOTIONS, EMPATHETIC, EMONET)

__all__ = ["DEEPDIALOGUE", "EMONET", "EMPATHETIC", "GOEMOTIONS", "LABEL_SETS", "WORDS"]

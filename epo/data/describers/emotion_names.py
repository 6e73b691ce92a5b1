"""Words that name an emotion: a description with one of them is the label once more, in a sentence.

Which words these are is our choice: those of the seven labels, their nouns and near synonyms, in English and Chinese.
"""

import re

_STEMS = (
    "afraid anger angr annoy anxi astonish calm cheer delight depress disgust emotion enrag envi fear feel frighten "
    "frustrat furi glad grie happ hate hatr horrif irritat jealous joy melanchol miser mood mourn nervous neutral "
    "outrag pain panic rage revuls sad scare scary shock sorrow surpris terrif terror unhapp upset worr"
).split()
_WORDS = "mad cry crying cried fury"
_CHINESE = "生气 愤怒 恼怒 厌恶 恶心 害怕 恐惧 惊恐 高兴 开心 快乐 喜悦 中性 平静 悲伤 难过 伤心 惊讶 吃惊 情绪".split()
_NAMES = re.compile(
    rf"\b(?:{'|'.join(_STEMS)})\w*|\b(?:{'|'.join(_WORDS.split())})\b|{'|'.join(_CHINESE)}", re.IGNORECASE
)


def emotion_names_in(text: str) -> list[str]:
    """Return the words of a text that name an emotion, in its order."""
    return _NAMES.findall(text)


__all__ = ["emotion_names_in"]

"""Talk about the task: what a language model says around a rewritten reply, or instead of one."""

import re

from epo.data.label_sets import WORDS
from epo.emotions import UnknownEmotionError

_SPEAKERS = r"(?:assistant|user|speaker|system|bot|human|line|reply|response|answer|rewrite|rewritten|output|input)"
_THE_TASK = r"(?:reply|response|answer|line|sentence|message|version|rewrite|rewriting|rephrasing|text|example)"

# What is looked for, under the name that a report gives it. Case does not matter. Our choice.
_PHRASES: dict[str, tuple[str, ...]] = {
    "about the reply": (
        rf"\bthe (?:assistant|user|speaker)(?:['’]s)?\b(?: \w+)? {_THE_TASK}\b",
        r"\bthe (?:original |rewritten |following )?(?:reply|response|rewrite|line|sentence) (?:sounds|should|conveys|"
        r"expresses|reads|uses|has been|is (?:now|written|meant))\b",
        r"\b(?:rewritten|rephrased|reworded|rewriting|rephrasing)\b",
        r"\brewrite\b",
        rf"\bhere(?:['’]s| is| are)\b[^.!?]{{0,60}}?(?:\b{_THE_TASK}\b|:)",
        r"\b(?:sound|sounding|sounds) (?:more|less) \w+",
        r"(?:改写|重写|以下是|这是改|助手的回复|原句)",
    ),
    "about itself": (
        r"\bas an? (?:ai|a\.i\.|language model|virtual assistant|ai language model|assistant)\b",
        r"\b(?:ai|language) (?:language )?model\b",
        r"\bi (?:can(?:no|['’])t|am unable to|am not able to) (?:assist|help with|fulfil|fulfill|comply|rewrite)\b",
        r"(?:作为一个|作为一名|作为)\s*(?:AI|人工智能|语言模型)",
    ),
    "a speaker's name before it": (
        rf"^\W*{_SPEAKERS}(?: it)?\s*(?:\([^)]*\)|\[[^\]]*\])?\s*[:：]",
        rf"\n\s*{_SPEAKERS}(?: it)?\s*(?:\([^)]*\))?\s*[:：]",
        r"^\W*(?:回复|回答|助手|用户|答)\s*[:：]",
    ),
    "marks of a chat or of a page": (r"<\|.*?\|>", r"```", r"\[/?INST\]", r"\*\*", r"</?(?:s|b|i|p|think|answer)>"),
    "a note": (
        r"(?:^|\n|\()\s*(?:note|explanation|n\.b\.|ps|p\.s\.)\s*[:：]",
        r"(?:^|\n|（)\s*(?:注|说明|解释)\s*[:：]",
    ),
}
_PATTERNS = {name: [re.compile(one, re.IGNORECASE) for one in these] for name, these in _PHRASES.items()}
_LABEL = re.compile(
    r"[(\[（【*]\s*([^\W\d_]+(?: [^\W\d_]+)?)\s*[)\]）】*]|^\W*([^\W\d_]+)\s*(?:[:：]|\s[-–—]\s)", re.IGNORECASE
)
_CHINESE_LABELS = frozenset("愤怒 生气 厌恶 恐惧 害怕 快乐 高兴 开心 中性 平静 悲伤 难过 惊讶".split())
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』", "‘": "’", "'": "'", "`": "`"}


def find_task_talk(gold: str, text: str) -> str | None:
    """Say what in a reply speaks of the task instead of to the user, in a few words that can be counted; None: nothing.

    What the gold reply does too is not held against the other: some dialogues are about rewriting texts.

    Args:
        gold: the reply in whose place it would stand.
        text: the words of the other.

    Source: our choice.
    """
    for name, patterns in _PATTERNS.items():
        if any(one.search(text) and not one.search(gold) for one in patterns):
            return name
    if _names_an_emotion(text) and not _names_an_emotion(gold):
        return "an emotion as a label"
    if _is_quoted_whole(text) and not _is_quoted_whole(gold):
        return "quotation marks around the whole"
    if "\n" in text.strip() and "\n" not in gold.strip():
        return "further lines"
    return None


def _names_an_emotion(text: str) -> bool:
    """Tell whether an emotion stands in brackets or stars, or before a colon, by any of its usual words."""
    return any(_is_emotion(found.group(1) or found.group(2)) for found in _LABEL.finditer(text))


def _is_emotion(words: str) -> bool:
    for word in (words, words.split()[-1], re.sub("ly$", "", words), re.sub("ily$", "y", words)):
        try:
            WORDS.read(word)
        except UnknownEmotionError:
            if word not in _CHINESE_LABELS:
                continue
        return True
    return False


def _is_quoted_whole(text: str) -> bool:
    said = text.strip().rstrip(".。")
    if len(said) < 3 or said[0] not in _QUOTES:
        return False
    closing = _QUOTES[said[0]]
    return said.endswith(closing) and closing not in said[1:-1]


__all__ = ["find_task_talk"]

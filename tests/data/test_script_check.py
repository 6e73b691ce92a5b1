"""Scripts: which one a text is in, and whether its language is written so."""

import pytest

from epo.data.script_check import is_other_script, script_of


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("I’m fine…", "Latin"),
        ("Straße", "Latin"),
        ("Привет, ok", "Cyrillic"),
        ("我很好 thanks!", "Latin"),
        ("我真的很好啊谢谢 ok", "Han"),
        ("こんにちは", "Kana"),
        ("안녕하세요", "Hangul"),
        ("שלום", "Hebrew"),
        ("नमस्ते", "Devanagari"),
        ("123 … ?!", None),
        ("☺", None),
    ],
)
def test_the_script_of_most_letters_counts(text, script):
    assert script_of(text) == script


@pytest.mark.parametrize(
    ("text", "language", "is_other"),
    [
        ("Hello", "en", False),
        ("Hello", "EN_us", False),
        ("你好吗", "en", True),
        ("Hello", "zh-CN", True),
        ("東京", "ja", False),
        ("Здраво", "sr", False),
        ("Zdravo", "sr-Latn", False),
        ("Hello", "tlh", None),  # a language we do not know the script of
        ("...", "en", None),
    ],
)
def test_a_text_in_the_script_of_another_language_is_told(text, language, is_other):
    assert is_other_script(text, language) is is_other

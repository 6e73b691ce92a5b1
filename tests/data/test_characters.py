"""Characters: what holds a text, what is mended in it, and when two texts are the same."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo.data.characters import comparison_form, is_visible, mend_text, read_text
from epo.data.findings import CollectFaults

MOJIBAKE = "UTF-8 that was read as Windows-1252: mended"
PERHAPS = "perhaps UTF-8 that was read as Windows-1252: left as it is"
CP1252 = "Windows-1252 control characters: repaired"
CONTROLS = "control characters: removed"
NFC = "text not in Unicode's normal form C: put into it"
ENDS = "invisible characters at the ends: removed"
LOST = "replacement character U+FFFD: letters were lost before"


@pytest.mark.parametrize(
    ("text", "mended", "notes"),
    [
        ("  Hello\n", "Hello", []),
        ("tabs\tand\nlines\r\nstay", "tabs\tand\nlines\r\nstay", []),
        ("It\x92s \x93fine\x94\x85", "It’s “fine”…", [CP1252]),
        ("a\x81b", "ab", [CP1252]),  # a place that Windows-1252 leaves empty
        ("a\0b\x07 c\x0bd", "ab c d", [CONTROLS]),
        ("cafe\u0301", "café", [NFC]),
        ("\ufeff\u200bHi\u00ad\u2060 ", "Hi", [ENDS]),
        ("\u00a0Hi\u3000", "Hi", []),
        ("caf\u00c3\u00a9", "café", [MOJIBAKE]),
        ("Itâ€™s", "It’s", [MOJIBAKE]),
        ("It\u00e2\u0080\u0099s", "It’s", [MOJIBAKE]),  # by way of Latin-1
        ("ðŸ˜¢", "😢", [MOJIBAKE]),
        ("5Â\u00a0€".replace("€", "â‚¬"), "5\u00a0€", [MOJIBAKE]),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет", [MOJIBAKE]),
        ("ä½\u00a0å¥½", "你好", [MOJIBAKE]),
        ("café".encode().decode("cp1252").encode().decode("cp1252"), "café", [MOJIBAKE]),  # twice
        ("cafÃ© olé", "cafÃ© olé", [PERHAPS]),  # not all of it: uncertain
        ("lo\ufffdt", "lo\ufffdt", [LOST]),
    ],
)
def test_texts_are_mended_and_each_change_is_noted(text, mended, notes):
    findings = CollectFaults()
    assert mend_text(text, "here", findings) == mended
    assert set(findings.notes) == set(notes)
    assert mend_text(mended, "here", CollectFaults()) == mended


@pytest.mark.parametrize(
    "text",
    [
        "Ça va, à bientôt… Où ? « Là »",
        "CAFÉ…",
        "AMANHÃ…",
        "„Spaß“",
        "Spaß”",
        "voilà…»",
        "Ælfræd, Þór, ÿ, Ñandú",
        "你好，世界",
        "مرحبا \u200fabc\u202c",
        "می\u200cخواهم",  # a joiner inside a word
        "❤️",  # a variation selector at the end
        "👨\u200d👩\u200d👧",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "नमस्ते",
        "\ue000 private",
    ],
)
def test_right_texts_are_left_alone(text):
    findings = CollectFaults()
    assert mend_text(text, "here", findings) == text
    assert not findings.notes


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aÃ©â€™\x80\x81\x92\0\u0301\u200b\ufeff É…ð\u009fÂ\u00a0\u00ad")) | st.text())
def test_mending_twice_changes_nothing_more(text):
    once = mend_text(text, "here", CollectFaults())
    again = CollectFaults()
    assert mend_text(once, "here", again) == once
    assert not {CP1252, CONTROLS, NFC, ENDS, MOJIBAKE} & set(again.notes)
    assert unicodedata.is_normalized("NFC", once)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8", min_codepoint=0xA0, max_codepoint=0x2FFF, categories=["L"]), min_size=3))
def test_letters_come_back_from_mojibake(text):
    text = unicodedata.normalize("NFC", text)
    spoilt = "".join(chr(byte) for byte in text.encode())
    assert mend_text(spoilt, "here", CollectFaults()) == mend_text(text, "here", CollectFaults())


@pytest.mark.parametrize(
    "text",
    ["", " \n", "\u200b\ufeff", "\u00ad", "\u2800", "\u3164\u115f", "\u202e\u202c", "\ufe0f", "\u0301", "\0", "\ufffd",
     "\u200e \u2060", "\x81", "\U000e0100"],
)  # fmt: skip
def test_what_cannot_be_seen_is_empty(text):
    findings = CollectFaults()
    assert read_text(text, "'text'", "empty utterance", "here", findings) is None
    assert findings.faults == ["here: 'text' is empty; write the words or leave it out"]


@pytest.mark.parametrize("text", ["...", "?", "😢", "\u3002", "\u0651\u0645", "\ue000", "🫩", "a\u0301", "\U0001fae9"])
def test_signs_and_pictures_are_texts(text):
    assert is_visible(text)
    assert read_text(text, "'text'", "empty utterance", "here", CollectFaults()) is not None


def test_what_is_no_text_is_named():
    for value, message in [
        (3, "here: 'text' must be a non-empty string; write the words or leave it out"),
        (None, "here: 'text' must be a non-empty string; write the words or leave it out"),
        (json.loads('"ha \\ud83d"'), "here: 'text' holds half a character (a lone surrogate); write it whole"),
    ]:
        findings = CollectFaults()
        assert read_text(value, "'text'", "empty utterance", "here", findings) is None
        assert findings.faults == [message]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("A  b\n", "a B", True),
        ("h\u200bo", "ho", True),
        ("café", "cafe\u0301", True),
        ("ＯＫ", "ok", True),
        ("Straße", "STRASSE", True),
        ("ﬁne", "fine", True),
        ("a\u00a0b", "a b", True),
        ("❤️", "❤", True),
        ("Great!", "Great...", False),
        ("a b", "ab", False),
        ("😢", "😊", False),
    ],
)
def test_texts_are_compared_by_what_is_read(first, second, is_same):
    assert (comparison_form(first) == comparison_form(second)) is is_same


@pytest.mark.parametrize("piece", [" ", "\u200b", "Ã©", "É…", "\u0301", "\x92"])
def test_long_texts_are_mended_as_short_ones_are(piece):
    """Two hundred thousand pieces, which only a mending that is linear in the length gets through."""
    few, many = (mend_text("a" + piece * count + "b", "here", CollectFaults()) for count in (20, 200_000))
    grown = (len(many) - len(few)) / (200_000 - 20)
    assert grown == int(grown) and many[:3] == few[:3] and many[-3:] == few[-3:]

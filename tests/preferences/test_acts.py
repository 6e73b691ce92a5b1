"""What a rewrite does otherwise than the gold reply: deny, ask, speak to the listener."""

import pytest

from epo.preferences.acts import changed_act

DENIES = "denies what the gold reply affirms, or the reverse"
ASKS, ADDRESSES = "asks no more", "no longer speaks to the listener"


@pytest.mark.parametrize(
    ("gold", "rewrite", "expected"),
    [
        ("They were not able to keep it.", "They were able to keep it.", DENIES),
        ("I know it.", "I don’t know it.", DENIES),
        ("I wont go.", "I go, sadly.", DENIES),
        ("It's fine.", "Oh no, it's fine.", None),
        ("I want cats.", "I would want cats.", None),
        ("Did you call?", "Let's call you.", ASKS),
        ("你好吗？", "你好。", ASKS),
        ("That is great!", "That is what?", None),
        ("You're right.", "He is right.", ADDRESSES),
        ("Is that your dog?", "Is that the dog?", ADDRESSES),
        ("I am glad.", "I am glad for you.", None),
        ("Das ist nicht wahr.", "Das ist wahr.", None),
        ("", "", None),
    ],
)
def test_what_a_rewrite_does_otherwise(gold, rewrite, expected):
    assert changed_act(gold, rewrite) == expected

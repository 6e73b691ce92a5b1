"""Labels, aliases and the appropriateness table."""

import pytest

from epo.emotions import (
    APPROPRIATENESS,
    EMOTIONS,
    VALENCE_AROUSAL,
    UnknownEmotionError,
    emotional_distance,
    fitting_emotion,
    parse_emotion,
)


def test_the_labels_are_the_seven_of_the_paper_in_a_fixed_order():
    assert EMOTIONS == ("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised")


def test_a_label_is_read_in_any_case():
    assert parse_emotion(" Happy ") == "happy"


def test_an_unknown_label_lists_the_known():
    with pytest.raises(UnknownEmotionError, match="unknown emotion 'joy'; want one of angry, disgust"):
        parse_emotion("joy")


def test_the_fitting_reply_is_the_row_maximum():
    assert {user: fitting_emotion(user) for user in EMOTIONS} == {
        "angry": "neutral",
        "disgust": "disgust",
        "fearful": "sad",
        "happy": "happy",
        "neutral": "neutral",
        "sad": "sad",
        "surprised": "surprised",
    }


def test_every_row_has_every_reply_and_one_maximum():
    assert tuple(APPROPRIATENESS) == tuple(VALENCE_AROUSAL) == EMOTIONS
    for row in APPROPRIATENESS.values():
        assert tuple(row) == EMOTIONS
        assert all(0 <= score <= 1 for score in row.values())
        assert list(row.values()).count(max(row.values())) == 1


def test_distance_by_hand():
    # happy (0.8, 0.5), sad (-0.7, -0.5): sqrt(1.5^2 + 1.0^2) = 1.803.
    assert emotional_distance("happy", "sad") == pytest.approx(1.803, abs=5e-4)
    assert emotional_distance("sad", "happy") == emotional_distance("happy", "sad")
    assert emotional_distance("angry", "angry") == 0

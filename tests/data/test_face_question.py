"""What a vision model is asked about a face, and which of its answers are kept."""

import hashlib

import pytest

from epo.data.describers import face_question as asked
from epo.data.describers.describer import Left

QUESTION = asked.face_question([0.0, 0.333, 0.667])


def read(answer):
    return asked.read_description(answer, QUESTION, "d")


def test_the_question_tells_when_each_frame_is_shown():
    (message,) = QUESTION
    assert message["role"] == "user" and "in order, at 0.00, 0.33, 0.67 seconds." in message["content"]


def test_another_wording_is_another_version():
    """Where this fails the question was changed: give it a new version, and note both here."""
    digests = {"face-1": "5589998e710af8cd"}
    assert hashlib.sha256(asked._QUESTION.encode()).hexdigest()[:16] == digests[asked.VERSION]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("The brows rise slightly. The lips part.", "The brows rise slightly. The lips part."),
        ('  "The **brows** rise,\n\nthen fade." ', "The brows rise, then fade."),
        ("<think>I see a face, sad?</think>The lids lower.", "The lids lower."),
        ("The lids lower (i.e. the eyes narrow). The jaw dro", "The lids lower (i.e. the eyes narrow)."),
        ("The mouth opens, 0.5 s later it closes.", "The mouth opens, 0.5 s later it closes."),
        ("No facial movement but a slow nod is visible.", "No facial movement but a slow nod is visible."),
    ],
)
def test_sentences_are_kept_on_one_line_without_what_stands_around_them(answer, kept):
    assert read(answer) == kept


@pytest.mark.parametrize(
    ("answer", "reason", "place"),
    [
        ("...", "empty answer", "'...'"),
        ("<think>hm", "empty answer", "'<think>hm'"),
        ("NO FACE", "clip without a face", "says the model"),
        ("There is no face visible here.", "clip without a face", "says the model"),
        ("Брови поднимаются.", "answer in another script", "Брови"),
        ("眉毛上扬。", "answer in another script", "眉毛"),
        ("12 34.", "answer in another script", "12 34"),
        ("I can’t help with identifying people.", "refusal", "identifying"),
        ("Sorry, but describing faces is not possible.", "refusal", "Sorry"),
        ("The pictures show one person in a short video, in order.", "answer that repeats the question", "one person"),
        (QUESTION[0]["content"], "answer that repeats the question", "The pictures"),
        ("The mouth curves into a happy smile.", "sentence that names an emotion", "'happy' in"),
        ("The brows rise and the li", "answer without a whole sentence", "raise llm_max_tokens"),
    ],
)
def test_what_is_no_description_is_named(answer, reason, place):
    left = read(answer)
    assert isinstance(left, Left) and left.reason == reason and place in left.place and left.place.startswith("d: ")


def test_half_of_the_runs_of_three_words_make_a_repetition_by_hand():
    """Runs of "write one to x y": (write one to), (one to x), (to x y): one of three; "write one to three x": two."""
    question = QUESTION[-1]["content"]
    assert asked._repeated_share("Write one to x y.", question) == pytest.approx(1 / 3)
    assert asked._repeated_share("Write one to three x.", question) == pytest.approx(2 / 3)
    assert asked._repeated_share("Lips part.", question) == 0.0

"""The probe of memories for past emotions: told emotions are found, untold ones are not, heard ones as far as right."""

import random
from dataclasses import replace

import pytest

from epo.data.dialogue import Dialogue, Turn
from epo.evaluation.feeling_recall import TooFewTurnsError, feeling_recall


def talk(index, emotions=("sad", "happy")):
    """Four past user turns whose words say nothing of how they are felt."""
    rng = random.Random(index)
    turns = []
    for _ in range(4):
        turns.append(Turn("user", f"I saw number {rng.randrange(90)} go by.", rng.choice(emotions)))
        turns.append(Turn("assistant", "I see.", "neutral"))
    return Dialogue(f"d{index}", (*turns, Turn("user", "And now?", "angry"), Turn("assistant", "Rest.", "neutral")))


TRAIN, TEST = [talk(i) for i in range(60)], [talk(i) for i in range(100, 140)]


def test_what_lines_tell_can_be_read_from_memories_and_what_they_do_not_cannot(make_compressor, make_tokenizer):
    """By a compressor that was not trained: its random state already keeps what it has just read."""
    told = feeling_recall(make_compressor(history_emotions=True), make_tokenizer(), TRAIN, TEST)
    untold = feeling_recall(make_compressor(), make_tokenizer(), TRAIN, TEST)
    assert (told["num_train"], told["num_test"]) == (240, 160)
    assert told["accuracy"] > 0.9 > 0.65 > untold["accuracy"]
    assert {age: found["count"] for age, found in told["by_age"].items()} == {"1-2": 40, "3-4": 40, "5-8": 80}
    low, high = untold["interval"]
    assert low < 0.5 < high + 0.1 and untold["majority"] < 0.6


def test_wrong_readings_are_found_wrong_and_missing_ones_unknown(make_compressor, make_tokenizer):
    compressor, tokenizer = make_compressor(history_emotions=True), make_tokenizer()
    other = {"sad": "happy", "happy": "sad"}

    def misheard(turns):
        return [replace(turn, emotion=other.get(turn.emotion, turn.emotion)) for turn in turns]

    assert feeling_recall(compressor, tokenizer, TRAIN, TEST, misheard)["accuracy"] < 0.1


def test_nothing_to_tell_apart_is_refused(make_compressor, make_tokenizer):
    with pytest.raises(TooFewTurnsError, match="1 emotions in past user turns of training and 160 such turns"):
        feeling_recall(make_compressor(), make_tokenizer(), [talk(i, ("sad",)) for i in range(3)], TEST)
    with pytest.raises(TooFewTurnsError, match="and 0 such turns"):
        feeling_recall(make_compressor(), make_tokenizer(), TRAIN, [])

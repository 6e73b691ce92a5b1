"""Words of many scripts by hand: one rule for scores, pairs and the curriculum."""

import pytest

from compressor.curriculum import RelevantTurns
from compressor.words import contains_words, is_unspaced, split_words
from epo.evaluation import metrics
from epo.preferences import scores


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Oh, it’s ANN's -- 2 cats!", ["oh", "it's", "ann's", "2", "cats"]),
        ("Don't STOP_now, ok?", ["don't", "stop", "now", "ok"]),
        ("我很好 ok", ["我", "很", "好", "ok"]),
        ("東京・大阪へ!", ["東", "京", "大", "阪", "へ"]),
        ("ｶﾀ ＡＢＣ", ["カ", "タ", "abc"]),  # half-width katakana, full-width Latin
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),  # Thai: vowels stay on their consonants
        ("हिन्दी में", ["हिन्दी", "में"]),  # Hindi writes blanks; its vowel signs are marks, not letters
        ("안녕 하세요", ["안녕", "하세요"]),
        ("cafe\u0301 Straße", ["café", "strasse"]),
        ("𠮷野家", ["𠮷", "野", "家"]),  # beyond the basic plane
        ("…?! ' _", []),
    ],
)
def test_words_of_many_scripts(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "fact", "is_in"),
    [
        ("我下周去东京见米拉。", "东京", True),
        ("我下周去东京见米拉。", "京见", True),  # nothing shows where such words end
        ("我下周去东京见米拉。", "大阪", False),
        ("我在Lyon住", "Lyon", True),
        ("我在Lyons住", "Lyon", False),
        ("カタログはﾄｳｷｮｳ", "トウキョウ", True),
        ("Annie", "Ann", False),
        ("ANN's trip to New\n York!", "new york", True),
        ("ann’s trip", "Ann", True),
        ("Joann", "ann", False),
        ("O’Brien came", "O'Brien", True),
        ("हिन्दी", "हिन्द", False),  # the rest of the word is a vowel sign
        ("a (b) c", "(b)", True),
        ("a.b", ".", False),
        ("x", " ", False),
    ],
)
def test_a_fact_is_found_as_a_whole_word_where_words_have_ends(text, fact, is_in):
    assert contains_words(text, fact) is is_in
    assert metrics.count_facts(text, [fact]) == is_in


def test_scores_of_unspaced_texts_count_characters():
    # 我 很 好 and 我 不 好: two of three shared; 4 characters, 3 different.
    assert metrics.token_f1("我很好", "我不好") == pytest.approx(2 / 3)
    assert metrics.distinct_n(["好好学习"], 1) == (0.75, 0.75)
    assert metrics.mean_words(["好好学习", "ok"]) == 2.5
    assert scores.token_f1(split_words("東京へ"), split_words("東京")) == pytest.approx(4 / 5)
    assert is_unspaced("好") and is_unspaced("ดี") and not is_unspaced("ok") and not is_unspaced("안")


def test_the_curriculum_keeps_the_turn_that_an_unspaced_reply_is_about():
    turns = ("米拉下周去东京。", "好的，知道了。", "天气很好。", "是的，很好。")
    relevant = RelevantTurns(turns)
    assert relevant.pick(turns, "你说米拉要去东京。", 1) == [0]
    assert relevant.pick(turns, "天气不错", 1) == [2]


def test_ties_of_the_curriculum_stay_ties_whatever_the_order_of_the_words():
    """Summed in another order equal numbers may differ in the last digit, and a set's order changes by process."""
    for trial in range(60):
        first, second = ([f"{side}{trial}x{i}" for i in range(40)] for side in "ab")
        # Word i of either turn stands in i + 1 other turns, so both turns share words of the same rarities.
        filler = [" ".join(words[i:]) for words in (first, second) for i in range(40)]
        turns = [" ".join(first), " ".join(second)]
        assert RelevantTurns([*filler, *turns]).pick(turns, " ".join(turns), 1) == [1]

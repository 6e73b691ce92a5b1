"""N-gram scores: the libraries' published examples, hand-worked ones, and slow references beside the fast paths."""

import pytest

from epo.evaluation.evaluating import evaluate
from epo.evaluation.ngram_overlap import character_fs, corpus_bleus, meteors, self_bleu

# The example of the BLEU paper, as nltk's documentation has it.
SAID = "It is a guide to action which ensures that the military always obeys the commands of the party"
GOLD = "It is a guide to action that ensures that the military will forever heed Party commands"


def test_bleu_by_hand_and_in_chinese():
    """We share three of four characters and one of three pairs: neighbours of one length, so no penalty."""
    assert corpus_bleus(["我很难过"], ["我真难过"])[:2] == pytest.approx([0.75, 0.5])
    assert corpus_bleus(["我很难过"], ["我真难过"])[2:] == [0.0, 0.0]  # no three characters in a row are shared
    assert corpus_bleus([SAID], [SAID]) == pytest.approx([1.0] * 4)
    assert corpus_bleus(["", ""], ["a", "b"]) == [0.0] * 4
    # two of three words, one short of four: exp(1 - 4 / 3) x 2 / 3
    assert corpus_bleus(["the cat ran"], ["the cat sat down"])[0] == pytest.approx(2 / 3 * 2.718281828 ** (1 - 4 / 3))


def test_bleu_is_nltks():
    from nltk.translate.bleu_score import corpus_bleu

    said, gold = [SAID, "he read the book because he was interested"], [GOLD, "he was interested because he read"]
    words = [[text.lower().split() for text in texts] for texts in (gold, said)]
    assert corpus_bleus(said, gold)[3] == pytest.approx(corpus_bleu([[words] for words in words[0]], words[1]))


def test_meteor_has_the_documented_values():
    """Of nltk's pages: 0.6944 of BLEU's example, 0 without a shared word, 0.5 in reverse order."""
    assert meteors([SAID], [GOLD]) == pytest.approx([0.6944], abs=5e-5)
    assert meteors(["John loves Mary", "", "on the mat sat the cat"], ["The cat", "a", "The cat sat on the mat"]) == [
        0.0, 0.0, 0.5,
    ]  # fmt: skip


def test_chrf_is_nltks_and_by_hand():
    from nltk.translate.chrf_score import sentence_chrf

    assert sentence_chrf(GOLD.split(), SAID.split()) == pytest.approx(0.6349, abs=1e-4), "nltk's own example, beta 3"
    for said, gold in ((SAID, GOLD), ("我很难过今天", "我真难过今天"), ("ab", "abcdefgh")):
        expected = sentence_chrf(gold.lower(), said.lower(), beta=2.0)
        assert character_fs([said], [gold])[0] == pytest.approx(expected, abs=1e-9)
    # n = 1: P 1, R 2/4, F2 = 5 x 0.5 / (4 + 0.5); n = 2: P 1, R 1/3, F2 = 5/3 / (4 + 1/3); n = 3 and 4: 0
    assert character_fs(["ab"], ["a b c d"])[0] == pytest.approx((2.5 / 4.5 + (5 / 3) / (13 / 3)) / 4)
    assert character_fs([""], [""]) == [0.0]


@pytest.mark.filterwarnings("ignore:")
def test_self_bleu_is_that_of_the_slow_way():
    from nltk.translate.bleu_score import sentence_bleu

    said = [
        "i am so sorry to hear that", "i am so sorry for you", "that is great news", "i am so sorry to hear that",
        "tell me more about what happened there", "so so so so what", "what happened to you so far",
    ]  # fmt: skip
    slow = []
    for place, reply in enumerate(said):
        others = [other.split() for i, other in enumerate(said) if i != place]
        score = sentence_bleu(others, reply.split())
        slow.append(score if score > 1e-60 else 0.0)
    assert self_bleu(said) == pytest.approx(slow)
    assert slow[0] == 1.0 and self_bleu(["only one"]) == [0.0] and self_bleu(["", "a b c d"]) == [0.0, 0.0]


def test_the_suites_columns(examples):
    gold = examples[4:7]
    report = evaluate([gold[0].text, "(sad)(sad)(sad)", ""], gold, ["ngrams", "diversity"])
    (row,) = report["rows"]
    assert row["rouge_1"] == row["rouge_2"] == pytest.approx(1 / 3) and row["chrf"] == pytest.approx(1 / 3)
    assert 0.3 < row["meteor"] < 1 / 3 and 0 < row["bleu_4"] < 1 and row["self_bleu"] == 0.0
    assert report["basis"]["ngrams"]["text"].startswith("nltk 3.")

"""Evaluation numbers against values worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epo.data.chance import chance_levels, is_hardly_better, share_interval
from epo.evaluation import metrics


def test_dialogues_of_one_size_are_resampled_as_any_others():
    values, clusters = [0.0, 1.0, 1.0, 0.5, 0.25, 1.0], ["a", "b", "c", "a", "b", "c"]
    weighted = metrics.resampled_means(values, [1.0] * 6, clusters, seed=4)
    assert (metrics.resampled_means(values, None, clusters, seed=4) == weighted).all()


def test_fact_recall_counts_whole_words_over_all_facts():
    replies = ["annie told me about lyon.", "Ann's trip to New\n York!", "no facts wanted"]
    facts = [("Ann", "Lyon"), ("ann", "New York", "concert"), ()]
    # Reply 1: Lyon only ("annie" is not "Ann"); reply 2: Ann and New York. 3 of 5.
    assert metrics.fact_recall(replies, facts) == pytest.approx(3 / 5)
    assert metrics.count_facts("a (b) c", ["(b)"]) == 1  # a fact is text, not a pattern


def test_fact_recall_without_facts_is_an_error_not_a_zero():
    with pytest.raises(ValueError, match="no facts to score"):
        metrics.fact_recall(["hi"], [()])


def test_token_f1_counts_repeats_and_ignores_articles():
    # Without articles: [cat, cat, sat] and [cat, sat, down, now]; shared cat, sat = 2; F1 = 2*2/(3+4).
    assert metrics.token_f1("The cat, a CAT sat", "cat sat down now") == pytest.approx(4 / 7)
    assert metrics.token_f1("", "word") == 0.0
    assert metrics.token_f1("the", "a") == 1.0
    assert metrics.mean_token_f1(["x", "y"], ["x", "z"]) == 0.5


def test_rouge_l_follows_order():
    # Longest common subsequence of "a b c d" and "b d a" is "b d": precision 2/4, recall 2/3, F1 = 4/7.
    assert metrics.rouge_l(["a b c d"], ["b d a"]) == pytest.approx(4 / 7)
    assert metrics.rouge_l(["我很好", "x"], ["我好", "y"]) == pytest.approx((2 * 2 / (3 + 2) + 0) / 2)


def test_distinct_n_per_reply_and_corpus():
    replies = ["so so good", "so good", "yes"]
    # n=1 per reply: 2/3, 2/2, 1/1; corpus: {so, good, yes} of 6 words.
    per_reply, corpus = metrics.distinct_n(replies, 1)
    assert per_reply == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert corpus == pytest.approx(3 / 6)
    # n=2: (so so, so good) 2/2; (so good) 1/1; none -> 0; corpus: 2 different of 3.
    per_reply, corpus = metrics.distinct_n(replies, 2)
    assert per_reply == pytest.approx(2 / 3)
    assert corpus == pytest.approx(2 / 3)


def test_mean_words():
    assert metrics.mean_words(["one two three", "one."]) == 2.0


def test_accuracy_macro_f1_and_confusion():
    wanted = ["sad", "sad", "sad", "happy"]
    predicted = ["sad", "sad", "happy", "angry"]
    assert metrics.accuracy(predicted, wanted) == 0.5
    # sad: precision 2/2, recall 2/3, F1 0.8; happy: F1 0; "angry" was never wanted, so it has no F1 of its own.
    assert metrics.macro_f1(predicted, wanted) == pytest.approx((0.8 + 0.0) / 2)
    labels = ["happy", "sad", "angry"]
    assert metrics.confusion(predicted, wanted, labels) == [[0, 0, 1], [1, 2, 0], [0, 0, 0]]
    assert metrics.accuracy([None, "sad"], ["sad", "sad"]) == 0.5


def test_chance_levels():
    # Shares 1/2, 1/4, 1/4: majority 0.5, sum of squares 0.25 + 0.0625 * 2.
    assert chance_levels(["a", "a", "b", "c"]) == (0.5, 0.375)


def test_bootstrap_interval_covers_the_normal_approximation():
    values = [1.0] * 140 + [0.0] * 60
    low, high = metrics.bootstrap_interval(values, seed=3)
    half_width = 1.96 * np.sqrt(0.7 * 0.3 / 200)  # 0.0635
    assert low == pytest.approx(0.7 - half_width, abs=0.012)
    assert high == pytest.approx(0.7 + half_width, abs=0.012)
    assert (low, high) == metrics.bootstrap_interval(values, seed=3)
    assert metrics.bootstrap_interval([1.0, 1.0]) == (1.0, 1.0)


def test_bootstrap_interval_weighs_items():
    values, weights = [1.0, 0.0] * 50, [3.0, 0.0] * 50
    assert metrics.bootstrap_interval(values, weights) == (1.0, 1.0)  # items of weight 0 do not count
    with pytest.raises(ValueError, match="2 values but 1 weights"):
        metrics.bootstrap_interval([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no weights above 0"):
        metrics.bootstrap_interval([1.0], [0.0])


def test_one_reply_a_dialogue_gives_the_interval_of_replies():
    values, weights = np.random.default_rng(1).random(50).tolist(), [1.0, 2.0, 3.0, 0.0, 1.0] * 10
    names = [f"d{i}" for i in range(50)]
    assert metrics.bootstrap_interval(values, weights, names) == metrics.bootstrap_interval(values, weights)
    # The interval of 200 values as it was before dialogues were told apart.
    assert metrics.bootstrap_interval([1.0] * 140 + [0.0] * 60, seed=3) == pytest.approx((0.635, 0.765), abs=1e-9)


def test_dialogues_are_drawn_whole():
    """Two dialogues, of three hits and one miss: a resample has 6 of 6, 3 of 4 twice, or 0 of 2 right."""
    values, names = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    assert metrics.bootstrap_interval(values, None, names) == (0.0, 1.0)
    assert metrics.bootstrap_interval(values, [1.0, 1.0, 1.0, 0.0], names) == (1.0, 1.0)
    assert metrics.bootstrap_interval([1.0, 0.0] * 20, None, [i // 2 for i in range(40)]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="2 values but 1 clusters; want one each"):
        metrics.bootstrap_interval([1.0, 0.0], None, ["a"])


def test_the_interval_over_dialogues_covers_the_truth_and_that_over_replies_does_not():
    """60 dialogues of 1 to 9 replies whose chances of a hit differ by dialogue: 0.1, 0.6 or 0.8, so 0.5 on average."""
    rng, truth, covered, covered_alone = np.random.default_rng(0), 0.5, 0, 0
    for trial in range(200):
        sizes = rng.integers(1, 10, size=60)
        names = np.repeat(np.arange(60), sizes)
        hits = (rng.random(len(names)) < np.repeat(rng.choice([0.1, 0.6, 0.8], size=60), sizes)).astype(float)
        low, high = metrics.bootstrap_interval(hits, None, names.tolist(), seed=trial, num_resamples=400)
        covered += low <= truth <= high
        low, high = metrics.bootstrap_interval(hits, None, None, seed=trial, num_resamples=400)
        covered_alone += low <= truth <= high
    assert covered >= 0.9 * 200  # 95 % wanted; the standard error of this count is 3
    assert covered_alone < 0.85 * 200


def test_agreement_with_the_label_of_another_item():
    # Always neutral on 3 neutral and 1 sad: each neutral meets 2 of 3 neutral others, the sad one 3 of 3.
    assert metrics.exchanged_accuracy(["neutral"] * 4, ["neutral"] * 3 + ["sad"]) == pytest.approx((3 * 2 + 3) / 12)
    # All different and all right: no other label agrees, while a shuffle with fixed points would score 1/3.
    assert metrics.exchanged_accuracy(["a", "b", "c"], ["a", "b", "c"]) == 0.0
    assert metrics.exchanged_accuracy(["a", "b"], ["b", "a"]) == 1.0
    assert metrics.exchanged_accuracy(["a"], ["a"]) is None


@pytest.mark.parametrize(
    ("score", "majority", "is_hardly"),
    [(0.434, 0.419, True), (0.496, 0.473, True), (0.292, 0.302, True), (0.7, 0.5, False), (1.0, 0.95, False)],
)
def test_what_is_hardly_better_than_the_commonest_label(score, majority, is_hardly):
    assert is_hardly_better(score, majority) is is_hardly


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.mean_token_f1([], []),
        lambda: metrics.rouge_l([], []),
        lambda: metrics.distinct_n([], 1),
        lambda: metrics.mean_words([]),
        lambda: metrics.accuracy([], []),
        lambda: metrics.macro_f1([], []),
        lambda: chance_levels([]),
        lambda: metrics.bootstrap_interval([]),
    ],
)
def test_nothing_to_score_is_an_error(call):
    with pytest.raises(ValueError, match="to score; evaluate at least one dialogue"):
        call()


@given(st.text(max_size=40), st.text(max_size=40))
def test_token_f1_is_symmetric_and_bounded(first, second):
    score = metrics.token_f1(first, second)
    assert 0.0 <= score <= 1.0
    assert score == metrics.token_f1(second, first)
    assert metrics.token_f1(first, first) == 1.0


@given(st.text(alphabet="abÄß 我'.", min_size=1, max_size=12), st.text(max_size=20))
def test_a_fact_standing_alone_is_found(fact, tail):
    if fact.split():
        assert metrics.count_facts(f"{fact} {tail}", [fact]) == 1


def test_the_interval_of_a_share_by_hand():
    # Wilson with z = 1.96 for 5 of 10: centre 0.5, half 1.96 / 1.38416 sqrt(0.025 + 0.009604) = 0.26341.
    assert share_interval(0.5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-4)
    assert share_interval(1.0, 4) == pytest.approx((0.51011, 1.0), abs=1e-4)
    assert share_interval(0.0, 1)[0] == 0.0
    with pytest.raises(ValueError, match="no cases"):
        share_interval(0.5, 0)

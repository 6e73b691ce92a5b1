"""The page of a pairs file: the verdict on top, charts only where there is something to draw, every text escaped."""

import re

import pytest

from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.emotions import EMOTIONS
from epo.preferences.page import render_page
from epo.preferences.pair import PreferencePair
from epo.preferences.tally import Tally
from epo.preferences.verdict import judge_pairs


def pair(index, chosen="a", rejected="b", emotions=("neutral", "angry"), **scores):
    user = Turn("user", "Oh & <b>.", "sad")
    said = Reply(f"d{index}", 1, (), user, chosen, emotions[0])
    return PreferencePair(said, rejected, emotions[1], "test", scores)


def counts(**known):
    return dict.fromkeys(EMOTIONS, 0) | known


def summary(**changed):
    return {
        "replies": 42, "pairs": 40, "distinct_rejected": 40, "dropped": {"empty <reply>": 2}, "left_out_for_equal": 0,
        "total_variation": 0.0, "chosen_emotions": counts(sad=30, happy=10),
        "rejected_emotions": counts(sad=30, happy=10),
        "probes": {"topic": 0.5, "length": 0.5}, "probe_intervals": {"topic": [0.35, 0.65], "length": [0.35, 0.65]},
        **Tally(asked=42, candidates=42, accepted=40).report(40), "balanced_by": "near",
        "coherence": None, "reader_accuracy": 0.5, "reader_interval": [0.4, 0.6], "reader_majority": 0.4,
        "reader_replies": 90, "opposite_random": {"pairs": 40, "probes": {"topic": 0.7, "length": 0.5, "words": 0.9}},
    } | changed  # fmt: skip


def report(**changed):
    whole = {
        "pairs": 40, "source": "test", "counter_emotion": "random", "marginals": "near", "max_dropped_share": 0.3,
        "emotion_judge": "words", "coherence_model": None, "reader_accuracy": 0.434,
        "reader_interval": [0.33, 0.54], "reader_majority": 0.419, "reader_replies": 90, "reader_says_little": True,
        "splits": {"train": summary()},
    } | changed  # fmt: skip
    return {"verdict": judge_pairs(whole), **whole}


def text_of(page):
    return " ".join(re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL).split())


def test_page_shows_thirty_pairs_and_escapes_them():
    pairs = [pair(i, f"<script>{i}</script>", similarity=i / 40) for i in range(40)]
    page = render_page(report(), pairs, seed=0)
    assert page.count("&lt;script&gt;") == 30 and "<script" not in page and "Oh &amp; &lt;b&gt;." in page
    assert "empty &lt;reply&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page == render_page(report(), pairs, seed=0) != render_page(report(), pairs, seed=1)


def test_the_reader_stands_wherever_emotion_divergence_does():
    pairs = [pair(i, emotion_divergence=i / 40) for i in range(40)]
    page = text_of(render_page(report(), pairs, seed=0))
    right = "right on 0.434 (0.33 to 0.54) of the 90 gold replies; always the commonest label: 0.419"
    assert page.count(right) == 2, "above the scores, and below the histogram"
    assert "<b>That is hardly better: on this corpus emotion_divergence says little" in page
    assert "hardly better: says little" in page and "<td>0.40 to 0.60</td>" in page
    better = text_of(render_page(report(reader_says_little=False), pairs, seed=0))
    assert "says little" not in better


def test_every_rating_of_the_judge_stands_there():
    rating = {"texts": "meld, test", "accuracy": 0.466, "accuracy_interval": [0.44, 0.49], "macro_f1": 0.363}
    rating |= {"macro_f1_interval": None, "majority": 0.481, "num_texts": 2610}
    page = text_of(render_page(report(judge={"name": "embeddings of <m>", "qualities": [rating]}), [pair(0)], seed=0))
    assert "<th>judge embeddings of &lt;m&gt; on</th>" in page and "<td>meld, test</td>" in page
    assert '<td class="number">0.363</td><td></td>' in page and "<td>0.44 to 0.49</td>" in page


def test_a_score_that_is_the_same_in_all_pairs_is_not_drawn_over_a_range():
    pairs = [pair(i, similarity=0.5, length_ratio=i / 40) for i in range(40)]
    page = render_page(report(), pairs, seed=0)
    assert "histogram of length_ratio" in page and "histogram of similarity" not in page
    assert "0.50 in all of them" in page
    assert page.index("<b>similarity</b>") < page.index("<b>length_ratio</b>"), "what says most comes first"


def test_the_verdict_stands_on_top_with_number_threshold_and_remedy():
    page = text_of(render_page(report(), [pair(0)], seed=0))
    assert page.index("Verdict: not fit to train on") < page.index("Can the pairs be told apart")
    assert "<td>40 pairs</td><td>at least 100</td><td>more dialogues" in page
    assert "Coherence was not measured" in page and "too few dialogues" in page


def test_no_chart_is_drawn_of_nothing():
    empty = summary(
        pairs=0, distinct_rejected=0, probes={}, probe_intervals={},
        chosen_emotions=counts(), rejected_emotions=counts(),
    )  # fmt: skip
    page = render_page(report(splits={"train": summary(), "test": empty}), [pair(0)], seed=0)
    assert page.count("share of pairs in which") == page.count("emotions of chosen and rejected replies") == 1
    assert "test: no pairs." in page


def test_pairs_without_emotions_are_shown_as_such():
    page = text_of(render_page(report(), [pair(0, emotions=(None, None))], seed=0))
    assert page.count("emotion not known") == 2 and "None" not in page


@pytest.mark.parametrize(
    ("changed", "weight", "what"),
    [
        ({"probes": {"coherence": 0.65}, "probe_intervals": {"coherence": [0.6, 0.7]}}, "against",
         r"found by a language model that only reads in 0.650 of the pairs \(0.60 to 0.70\)"),
        ({"probes": {"words": 0.9}, "probe_intervals": {"words": [0.85, 0.95]}}, "against", "its words alone in 0.900"),
        ({"probes": {"topic": 0.3}, "probe_intervals": {"topic": [0.25, 0.35]}}, "against", "last turns in 0.300"),
        ({"total_variation": 0.3, "left_out_for_equal": 400}, "against", "replies differ by 0.300"),
        ({"distinct_rejected": 90}, "against", "only 90 different rejected replies in 400 pairs"),
        ({"pairs": 99, "distinct_rejected": 99}, "against", "^99 pairs$"),
    ],
)  # fmt: skip
def test_each_number_that_speaks_against_the_pairs(changed, weight, what):
    good = summary(replies=400, pairs=400, distinct_rejected=400) | {
        "probes": {"coherence": 0.52}, "probe_intervals": {"coherence": [0.47, 0.57]},
    }  # fmt: skip
    assert judge_pairs({"reader_says_little": False, "marginals": "near", "splits": {"train": good}}) == {
        "level": "fit", "title": "nothing speaks against training on them", "reasons": [],
    }  # fmt: skip
    verdict = judge_pairs({"reader_says_little": False, "marginals": "near", "splits": {"train": good | changed}})
    found = [reason for reason in verdict["reasons"] if re.search(what, reason["what"])]
    assert len(found) == 1 and found[0]["weight"] == weight and verdict["level"] == "unfit"
    assert found[0]["split"] == "train" and found[0]["threshold"] and found[0]["remedy"]


def test_what_is_noise_or_not_known_is_not_held_against_the_pairs():
    noisy = summary(replies=400, pairs=400, distinct_rejected=400) | {
        "probes": {"words": 0.1, "topic": 0.6}, "probe_intervals": {"words": [0.05, 0.15], "topic": [0.54, 0.66]},
    }  # fmt: skip
    few = noisy | {"pairs": 5, "distinct_rejected": 5}
    verdict = judge_pairs(
        {
            "reader_says_little": True,
            "marginals": "near",
            "reader_accuracy": 0.43,
            "reader_majority": 0.42,
            "splits": {"train": noisy, "test": few},
        }
    )
    assert verdict["level"] == "unproven" and {reason["weight"] for reason in verdict["reasons"]} == {"unproven"}
    assert [reason["split"] for reason in verdict["reasons"]] == ["all", "test", "all"]

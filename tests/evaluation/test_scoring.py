"""From replies to a row: words are scored, labels are not; facts and emotions come from the unchanged example."""

from dataclasses import replace

import pytest

from epo.data.replies import replies_of
from epo.data.selection import labelled_clips
from epo.evaluation.contestants import Generation
from epo.evaluation.evaluating import choose_suites, compare
from epo.evaluation.recognition import predict_emotions, recognise
from epo.evaluation.scoring import Cell
from epo.evaluation.suite import Answers, Task
from epo.evaluation.text_recall import text_recall
from epo.prompts.text_prompts import TextPrompts

_LEARNT = (("I am glad", "happy"), ("so glad", "happy"), ("I am sorry", "sad"), ("sorry indeed", "sad"))


@pytest.fixture
def training(examples):
    return [replace(examples[0], text=text, emotion=emotion) for text, emotion in _LEARNT]


@pytest.fixture
def score(training, examples):
    """Score replies, by default to examples 4 to 6; returns the row."""

    def score(replies, gold=examples[4:7], sampled=None):
        task = Task(gold, training=training)
        report = compare([Answers("x", replies, sampled)], task, choose_suites(None, task), Generation())
        return report["rows"][-1]

    return score


def test_a_row_scores_words_and_facts(score):
    """Gold of examples 4, 5, 6: happy Mira, sad Otto, sad Lena."""
    row = score(["(sad) I am glad about Mira.", "(happy) I am sorry, Otto.", "(sad) so glad"])
    assert (row["name"], row["kind"]) == ("x", "main")
    assert row["emotion_score"] == pytest.approx(2 / 3)  # judged happy, sad, happy whatever the label says
    assert row["by_gold_emotion"] == {"happy": Cell(1.0, None, 1, 1), "sad": Cell(0.5, (0.0, 1.0), 2, 2)}
    assert row["by_user_emotion"] == {
        "disgust": Cell(1.0, None, 1, 1), "neutral": Cell(0.0, None, 1, 1), "surprised": Cell(1.0, None, 1, 1),
    }  # fmt: skip
    assert row["emotion_score_interval"] == (0.0, 1.0) and row["degenerate"] == 0.0
    assert row["fact_recall"] == pytest.approx(2 / 3)
    assert row["mean_reply_words"] == pytest.approx((5 + 4 + 2) / 3)
    assert row["emotion_score_sampled"] is None and row["degenerate_sampled"] is None


def test_gold_replies_score_in_full(score, examples):
    row = score([f"({e.emotion}) {e.text}" for e in examples[4:7]])
    assert [row[key] for key in ("emotion_score", "fact_recall", "token_f1")] == [1.0, 1.0, 1.0]


def test_sampled_replies_fill_their_own_columns(score):
    row = score(["glad", "glad", "glad"], sampled=["glad Mira", "glad", "glad"])
    by_probability = ("emotion_cosine", "appropriateness")  # tests/evaluation/test_judged_suites.py works these by hand
    assert all(0 < row[f"{key}_sampled"] < 1 for key in by_probability)
    assert {key: value for key, value in row.items() if "sampled" in key and not key.startswith(by_probability)} == {
        "emotion_score_sampled": pytest.approx(1 / 3), "emotion_score_sampled_interval": (0.0, 1.0),
        "fact_recall_sampled": pytest.approx(1 / 3), "fact_recall_sampled_interval": (0.0, 1.0),
        "degenerate_sampled": 0.0,
    }  # fmt: skip
    assert row["fact_recall"] == 0.0


def test_degenerate_replies_score_nothing_and_are_counted(score):
    """Labels over again, a name over and over, and one good reply (gold: happy Mira, sad Otto, sad Lena)."""
    said = ["(happy)(happy)(happy)", "(sad) Otto Otto Otto Otto", "(sad) I am sorry that Lena left."]
    row = score(said, sampled=[""] * 3)
    assert row["degenerate"] == pytest.approx(2 / 3)
    gains = [row[key] for key in ("emotion_score", "fact_recall", "token_f1", "rouge_l")]
    assert gains == [pytest.approx(1 / 3)] * 4
    assert row["emotion_cosine"] == pytest.approx(1 / 3)  # the good reply is its gold word for word
    assert row["emotion_cosine_sampled"] == row["appropriateness_sampled"] == 0.0
    assert row["distinct_1"] == pytest.approx(1 / 3)  # the mean over replies; a lone label would have 1
    assert row["distinct_1_corpus"] == pytest.approx(8 / 12)  # happy x 2, otto x 4 and six words once
    assert row["mean_reply_words"] == pytest.approx((2 + 4 + 6) / 3)
    assert row["degenerate_sampled"] == 1.0


def test_replies_in_another_script_are_misses_of_every_judge_and_not_guesses(score):
    """Gold happy, sad, sad: what a judge says of letters that it never saw would be right of some."""
    row = score(["我很抱歉听到这个消息。", "Мне очень жаль, Отто.", "私は悲しいです"], sampled=["それは残念です"] * 3)
    names = ("emotion_score", "emotion_cosine", "appropriateness")
    assert [row[name + form] for name in names for form in ("", "_sampled")] == [0.0] * 6
    assert row["degenerate"] == 0.0  # they have words
    assert row["failures"]["misread"]["count"] == 3


def test_a_reply_to_a_gold_without_words_gains_nothing_by_silence(score, examples):
    """Two empty texts have the same words, but nothing was said."""
    assert score(["(happy)"], [replace(examples[4], text="...")])["token_f1"] == 0.0


def test_intervals_are_over_dialogues(score, dialogues):
    """Replies 4 of one dialogue all hit, 4 of another all miss: no draw of dialogues is certain, one of replies is."""
    first, second = replies_of(dialogues[5:7], "last")
    said = ["(sad) I am sorry about Otto."] * 4 + ["(sad) I am glad about Lena."] * 4
    row = score(said, [first] * 4 + [second] * 4)
    assert row["emotion_score"] == 0.5 and row["emotion_score_interval"] == (0.0, 1.0)
    assert row["by_gold_emotion"] == {"sad": Cell(0.5, (0.0, 1.0), 8, 2)}
    assert row["fact_recall_interval"] == (1.0, 1.0)
    alone = score(["(sad) I am sorry."] * 4, [first] * 4)
    assert alone["emotion_score_interval"] is None  # one dialogue tells of no other


def test_recognition_counts_every_clip_once(make_extractor, dialogues, reader, clip_cache):
    labelled = labelled_clips(dialogues)
    clips, emotions = [clip for clip, _ in labelled], [emotion for _, emotion in labelled]
    extractor = make_extractor()
    found = predict_emotions(extractor, clips, reader, clip_cache, batch_size=4)
    assert found == predict_emotions(extractor, clips, reader, clip_cache, batch_size=11)
    report = recognise(extractor, clips, found["fused"], reader, clip_cache)
    _levels_of_chance(report, found["fused"])
    assert report["accuracy"] == 1.0 and report["num_clips"] == sum(map(sum, report["confusion"])) == 11
    wrong = recognise(extractor, clips, emotions, reader, clip_cache)
    hits = sum(a == b for a, b in zip(found["fused"], emotions, strict=True))
    assert wrong["accuracy"] == pytest.approx(hits / 11)
    assert recognise(extractor, [], [], reader, clip_cache) == {}


def _levels_of_chance(report, labels):
    """Of labels that are all recognised: the commonest, p squared, and the agreement of two different clips."""
    counts = [labels.count(label) for label in set(labels)]
    assert report["majority"] == pytest.approx(max(counts) / 11)
    assert report["sum_p2"] == pytest.approx(sum(count**2 for count in counts) / 121)
    assert report["shuffled"] == pytest.approx(sum(count * (count - 1) for count in counts) / 110)


def test_text_recall_reads_what_the_model_says(make_llm, tokenizer, examples):
    """Greedy replies are the same in any batch, and what they do not hold is not recalled."""
    llm, said = make_llm(), []
    generate = llm.generate

    def keep(**inputs):
        ids = generate(**inputs)
        said.extend(tokenizer.batch_decode(ids[:, inputs["input_ids"].size(1) :], skip_special_tokens=True))
        return ids

    llm.generate = keep
    assert (
        text_recall(llm, TextPrompts(tokenizer), examples[:3], [("never said",)] * 3, batch_size=1, max_new_tokens=12)
        == 0.0
    )
    alone = list(said)
    said.clear()
    assert text_recall(llm, TextPrompts(tokenizer), examples[:3], [("never said",)] * 3, max_new_tokens=12) == 0.0
    assert said == alone and all(said)

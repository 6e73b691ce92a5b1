"""Scores by hand, every reason to drop, what the classifier reads, and what the probes find."""

from dataclasses import replace

import numpy as np
import pytest

from epo.data.dialogue import DataError, Dialogue, Turn
from epo.data.replies import reply_at
from epo.emotions import EMOTIONS
from epo.judging.opened_judge import JudgeSettings, open_judge
from epo.preferences.classifier import CorpusReader, JudgeReader, ReaderQuality, confusion_table, rate_reader
from epo.preferences.pair import PreferencePair
from epo.preferences.scores import token_f1
from epo.preferences.shortcuts import probe_pairs
from epo.preferences.verification import Examiner, Thresholds


def reply(text, emotion="neutral", index=0):
    turns = (Turn("user", "What about the train?"), Turn("assistant", text, emotion))
    return reply_at(Dialogue(f"d{index}", turns, split="train"), 1)


GOLD = [reply(f"{'Hooray' if i % 2 else 'Alas'}, the train {i}.", "happy" if i % 2 else "sad", i) for i in range(20)]


def examine(gold, rejected, emotion="sad", **limits):
    """Return the scores of a candidate of a source that is certain, and why it is dropped."""
    examined = Examiner(Thresholds(**limits), CorpusReader(GOLD), is_certain=True).examine(gold, rejected, emotion)
    return examined.candidate.pair_scores(), examined.reason


def test_token_f1_by_hand():
    # "a a b" and "a b b" share one a and one b: 2 * 2 / 6.
    assert token_f1(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert token_f1([], []) == 0.0


def test_scores_by_hand():
    scores, reason = examine(reply("Good day to you", "happy"), "Bad day", "sad")
    assert scores["emotion_distance"] == pytest.approx((1.5**2 + 1.0**2) ** 0.5)  # (.8, .5) to (-.7, -.5)
    assert scores["similarity"] == pytest.approx(2 * 1 / 6)
    assert scores["length_ratio"] == pytest.approx(2 / 4)
    assert scores["script_share"] == 1.0
    assert 0 <= scores["emotion_divergence"] <= 1 and reason is None


@pytest.mark.parametrize(
    ("rejected", "limits", "reason"),
    [
        ("  ", {}, "empty reply"),
        ("GOOD day  to you", {}, "same text as the gold reply"),
        ("Bad day to you", {"min_emotion_distance": 2.0}, "emotion labels too near"),
        ("Good day to me", {"min_emotion_divergence": 1.0}, "words too alike in emotion"),
        ("Bad night at home", {"min_similarity": 0.1}, "content too different"),
        ("Good day to me", {"max_similarity": 0.5}, "content too similar"),
        ("Bad", {}, "length too different"),
        ("very " * 13, {}, "length too different"),
        ("плохой день тебе друг", {}, "another language's script"),
    ],
)
def test_every_reason_to_drop(rejected, limits, reason):
    assert examine(reply("Good day to you", "happy"), rejected, **limits)[1] == reason


def test_classifier_reads_what_the_corpus_writes():
    reader = CorpusReader(GOLD)
    read = reader.read(GOLD[0], "Alas, how is it?")
    assert read.sum() == pytest.approx(1) and EMOTIONS[read.argmax()] == "sad"
    table = confusion_table(GOLD, reader)
    for emotion in ("happy", "sad"):
        place = EMOTIONS.index(emotion)
        assert table[place].sum() == pytest.approx(1) and table[place].argmax() == place
    assert table[EMOTIONS.index("angry")].sum() == 0


def test_classifier_has_not_seen_the_dialogue_it_reads():
    # The label of dialogue 0 says the opposite of its word: a classifier that had seen it would hesitate.
    marked = [reply("Zebra Alas", "happy", 0), *GOLD[1:]]
    without = CorpusReader([one for place, one in enumerate(marked) if place % 5 != 0] + marked[:1])
    assert EMOTIONS[without.read(marked[0], "Zebra Alas").argmax()] == "sad"


def test_one_emotion_alone_is_read_as_anything():
    assert CorpusReader([reply("Hi", "sad")]).read(reply("Hi", "sad"), "Hi").tolist() == pytest.approx([1 / 7] * 7)


@pytest.fixture
def make_classifier(tmp_path, make_tokenizer):
    def make(labels):
        from transformers import AutoConfig, AutoModelForSequenceClassification

        config = AutoConfig.for_model(
            "bert", vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}, pad_token_id=0,
        )  # fmt: skip
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
        make_tokenizer().save_pretrained(tmp_path)
        return str(tmp_path)

    return make


def test_any_judge_reads_in_the_place_of_a_reply(make_classifier):
    opened = open_judge(JudgeSettings(make_classifier(["joy", "sadness", "anger"])), GOLD)
    reader = JudgeReader(opened, GOLD)
    read = reader.read(GOLD[0], "Alas")
    assert read.sum() == pytest.approx(1, abs=1e-5)
    assert [emotion for emotion, share in zip(EMOTIONS, read, strict=True) if share > 0] == ["angry", "happy", "sad"]
    assert rate_reader(GOLD, reader).num_replies == 20


def test_a_judge_is_rated_on_replies_that_are_new_to_it_and_that_people_labelled():
    by_people, by_model = reply("Alas, the boat.", "sad"), replace(reply("Alas, a car.", "sad"), labelled_by="m")
    opened = open_judge(JudgeSettings(), GOLD, [by_people, by_model])
    reader = JudgeReader(opened, GOLD)
    assert rate_reader([*GOLD, by_people, by_model], reader).num_replies == 1
    assert [quality.num_texts for quality in opened.qualities] == [1]
    assert opened.fitted_on == {"its own training replies": 20}


def pair(index, chosen, rejected):
    return PreferencePair(reply(chosen, index=index), rejected, "angry", "test", {"similarity": 0.5})


def test_probes_find_what_gives_a_pair_away():
    told = [pair(i, f"Fine, the train number {i}.", f"Grr {i}.") for i in range(40)]
    assert probe_pairs(told) == {"topic": 1.0, "length": 1.0, "words": 1.0}


def test_probes_are_at_chance_where_the_sides_are_dealt_alike():
    words = ("Fine", "Grr")
    even = [pair(i, f"{words[i % 2]} {i} so", f"{words[1 - i % 2]} {i} so") for i in range(40)]
    probes = probe_pairs(even)
    assert probes["topic"] == probes["length"] == 0.5 and probes["words"] <= 0.6


def test_words_probe_does_not_know_texts_by_heart():
    # Every text is chosen once and rejected once: by heart, each held-out pair would be judged wrongly.
    ring = [pair(i, f"w{i} w{i + 100}", f"w{(i + 1) % 40} w{(i + 1) % 40 + 100}") for i in range(40)]
    assert probe_pairs(ring)["words"] == pytest.approx(0.5, abs=0.2)


def test_probes_of_few_pairs_or_wordless_ones():
    assert probe_pairs([]) == {}
    assert probe_pairs([pair(0, "!", "?")]) == {"topic": 0.5, "length": 0.5}
    assert probe_pairs([pair(i, "!", "?") for i in range(12)])["words"] == 0.5


class _Fixed:
    """Reads one distribution whatever it is given."""

    def __init__(self, emotion):
        self.distribution = np.array([float(name == emotion) for name in EMOTIONS])

    def read(self, gold, text):
        return self.distribution


def test_a_reader_is_rated_against_the_commonest_label_of_the_same_replies():
    gold = [reply(f"Words {i}.", emotion, i) for i, emotion in enumerate(["sad", "sad", "happy", "sad", "neutral"])]
    always, never = rate_reader(gold, _Fixed("sad")), rate_reader(gold, _Fixed("happy"))
    assert (always.accuracy, always.majority, always.num_replies) == (0.6, 0.6, 5) and always.is_hardly_better
    assert (never.accuracy, never.majority) == (0.2, 0.6) and never.is_hardly_better
    assert rate_reader([], _Fixed("sad")).report() == {
        "reader_accuracy": None, "reader_interval": None, "reader_majority": None, "reader_replies": 0,
        "reader_says_little": False,
    }  # fmt: skip


def test_a_reader_that_may_be_better_by_chance_alone_says_little():
    # 7 of 9 against a commonest label of 4 of 9: far better, but Wilson's interval begins at 0.45, just above 4/9.
    few = ReaderQuality(7 / 9, 4 / 9, 9)
    assert few.interval == pytest.approx((0.4526, 0.9368), abs=1e-3) and not few.is_hardly_better
    assert ReaderQuality(6 / 9, 4 / 9, 9).is_hardly_better and not ReaderQuality(6 / 9, 4 / 9, 900).is_hardly_better
    assert ReaderQuality(6 / 9, 4 / 9, 9).report()["reader_says_little"] is True


def test_the_corpus_reader_is_rated_on_dialogues_it_was_not_fitted_on():
    """Words that tell nothing, each dialogue with its own: known by heart they would be read without a fault."""
    labels = np.random.default_rng(0).choice(["sad", "happy"], size=60).tolist()
    gold = [reply(f"alpha{i} beta{i} gamma{i}", emotion, i) for i, emotion in enumerate(labels)]
    quality = rate_reader(gold, CorpusReader(gold))
    assert quality.accuracy < 0.75 and quality.is_hardly_better


def test_gold_of_another_corpus_cannot_be_rewritten():
    from epo.preferences.sources.rewrite import RewriteSource

    with pytest.raises(DataError, match="was not written by the built-in corpus"):
        RewriteSource(0).propose(GOLD[:1], ["happy"])

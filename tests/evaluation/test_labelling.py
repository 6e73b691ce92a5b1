"""Machine labels: people's are kept, others are marked, unsure ones are left out, and the rating is by hand."""

import numpy as np
import pytest
import torch

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError, Dialogue, Turn
from epo.data.label_sets import WORDS
from epo.emotions import EMOTIONS
from epo.evaluation.labellers import ClipModel, CorpusWords, WordsModel, short_name
from epo.evaluation.labelling import LabelCounts, choose, label_dialogues, rate, read_all


def shares(**given):
    return np.array([given.get(emotion, 0.0) for emotion in EMOTIONS])


class ByWord:
    """A labeller that is sure of the emotion whose name a text begins with, and cannot read "broken"."""

    def read(self, items):
        return [None if item == "broken" else shares(**{item.split()[0]: 0.9}) for item in items]


@pytest.mark.parametrize(
    ("row", "least", "chosen"),
    [
        (shares(sad=0.6, happy=0.4), 0.5, "sad"),
        (shares(sad=0.6, happy=0.4), 0.7, None),
        (shares(sad=0.6, happy=0.4), 0.6, "sad"),
        (shares(sad=0.4), 0.0, None),  # 0.6 belongs to a label that is none of ours
        (None, 0.0, None),
    ],
)
def test_a_label_must_be_likely_enough(row, least, chosen):
    assert choose(row, least) == chosen


def test_only_turns_without_emotion_of_the_splits_asked_for_are_labelled():
    turns = (
        Turn("user", "angry one"),
        Turn("assistant", "sad one"),
        Turn("assistant", "happy one", "neutral"),
        Turn("assistant", "happy two", "neutral", labelled_by="old"),
        Turn("assistant", "broken"),
    )
    dialogues = [Dialogue(split, turns, split=split) for split in ("train", "test")]
    counts = LabelCounts()
    train, test = label_dialogues(dialogues, ByWord(), "replies", ["train"], 0.5, "m", counts)
    assert test == dialogues[1]
    assert [turn.emotion for turn in train.turns] == [None, "sad", "neutral", "neutral", None]
    assert [turn.labelled_by for turn in train.turns] == [None, "m", None, "old", None]
    assert counts.as_json() == {
        "labelled": {"train": {"sad": 1}}, "human": 2, "machine": 2, "unsure": 0, "unreadable": 1, "passed_over": 2
    }  # fmt: skip
    counts = LabelCounts()
    (train,) = label_dialogues(dialogues[:1], ByWord(), "words", ["train"], 0.95, "m", counts)
    assert train == dialogues[0] and counts.unsure == 2


def test_more_dialogues_than_are_read_together_keep_their_order():
    dialogues = [Dialogue(str(i), (Turn("assistant", f"{EMOTIONS[i % 7]} {i}"),), split="train") for i in range(150)]
    found = list(label_dialogues(dialogues, ByWord(), "replies", ["train"], 0.5, "m", LabelCounts()))
    assert [dialogue.id for dialogue in found] == [str(i) for i in range(150)]
    assert [dialogue.turns[0].emotion for dialogue in found] == [EMOTIONS[i % 7] for i in range(150)]


def test_a_rating_by_hand():
    rows = [shares(sad=0.9), shares(sad=0.6, happy=0.4), shares(happy=0.8), None, shares(happy=0.55, sad=0.45)]
    rating = rate(rows, ["sad", "happy", "happy", "angry", "happy"], min_confidence=0.7)
    assert rating is not None
    assert (rating.count, rating.accuracy, rating.majority) == (4, 0.75, 0.75)
    assert (rating.confident, rating.confident_accuracy) == (0.5, 1.0)
    assert rating.is_hardly_better
    assert rate([None], ["sad"], 0.5) is None
    unsure = rate([shares(sad=0.5, happy=0.4)], ["sad"], 0.9)
    assert unsure is not None and unsure.confident_accuracy is None


def words_model(make_tokenizer, labels, problem_type=None):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label=dict(enumerate(labels)), label2id={}, problem_type=problem_type,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval(), tokenizer


def test_labels_of_a_classifier_add_up_by_the_map(make_tokenizer):
    model, tokenizer = words_model(make_tokenizer, ["joy", "Excitement", "sadness", "anger"])
    texts = ["We spoke again, part 1.", "I am", "We " * 300]
    rows = read_all(WordsModel(model, tokenizer, WORDS.read, "m"), texts)
    for text, row in zip(texts, rows, strict=True):
        batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=64)
        joy, excitement, sadness, anger = model(**batch).logits.softmax(-1)[0].tolist()
        expected = shares(happy=joy + excitement, sad=sadness, angry=anger)
        assert row == pytest.approx(expected, abs=1e-6)


def test_left_out_labels_and_several_at_once_leave_a_rest(make_tokenizer):
    model, tokenizer = words_model(make_tokenizer, ["joy", "love", "sadness"], "multi_label_classification")
    (row,) = WordsModel(model, tokenizer, lambda label: {"joy": "happy", "sadness": "sad"}.get(label), "m").read(["We"])
    scores = model(**tokenizer(["We"], return_tensors="pt")).logits.sigmoid()[0]
    joy, _, sadness = (scores / scores.sum()).tolist()
    assert row == pytest.approx(shares(happy=joy, sad=sadness), abs=1e-6) and row.sum() < 1


def test_a_classifier_with_other_labels_is_refused(make_tokenizer):
    model, tokenizer = words_model(make_tokenizer, ["POSITIVE", "NEGATIVE"])
    with pytest.raises(DataError, match="some/model: its label 'POSITIVE' is not in the label map; .* give --labels"):
        WordsModel(model, tokenizer, WORDS.read, "some/model")
    with pytest.raises(DataError, match="leaves out all its labels, POSITIVE, NEGATIVE"):
        WordsModel(model, tokenizer, lambda label: None, "some/model")


def test_the_corpus_teaches_a_labeller_that_is_rated_on_what_it_has_not_seen():
    texts = [f"{'lovely great' if i % 2 else 'awful bad'} day {i}" for i in range(60)]
    emotions = ["happy" if i % 2 else "sad" for i in range(60)]
    labeller = CorpusWords(texts, emotions, [str(i // 3) for i in range(60)])
    assert [choose(row, 0.5) for row in labeller.held_out] == emotions
    assert [choose(row, 0.5) for row in labeller.read(["a great one", "bad, bad"])] == ["happy", "sad"]
    noise = CorpusWords([f"word{i}" for i in range(60)], emotions, [str(i) for i in range(60)])
    rating = rate(noise.held_out, emotions, 0.0)
    assert rating is not None and rating.accuracy < 0.65  # what it was fitted on it would know
    with pytest.raises(DataError, match="want two emotions or more among labelled turns of train, found sad"):
        CorpusWords(["a", "b"], ["sad", "sad"], ["a", "b"])


def test_an_extractor_reads_clips_and_passes_over_broken_ones(corpus, make_extractor, reader, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    clips = [Clip(corpus / "0.wav"), Clip(tmp_path / "broken.wav"), Clip(corpus / "1.wav", corpus / "1.mp4")]
    extractor = make_extractor()
    labeller = ClipModel(extractor, reader, ClipCache(None))
    rows = labeller.read(clips)
    assert rows[1] is None and labeller.read([clips[1]]) == [None]
    for place in (0, 2):
        batch = reader.batch([reader.read(clips[place], ClipCache(None))])
        with torch.no_grad():
            assert rows[place] == pytest.approx(extractor(**batch).fused_logits.softmax(-1)[0].numpy(), abs=1e-5)


def test_a_label_does_not_say_where_a_model_lies(tmp_path):
    (tmp_path / "secret" / "my-model").mkdir(parents=True)
    assert short_name(str(tmp_path / "secret" / "my-model")) == "my-model"
    assert short_name("owner/name") == "owner/name"

"""Judges: quality by hand, fits that repeat, text held out, labels of others, settings that lack one another."""

import json

import numpy as np
import pytest
import torch

from epo.data.dialogue import DataError, Dialogue, Turn
from epo.data.replies import reply_at
from epo.emotions import EMOTIONS
from epo.evaluation.metrics import macro_f1
from epo.judging.embedding_judge import EmbeddingJudge, Head, fit_head
from epo.judging.judge import JudgeError, JudgeQuality, accuracy_of, likeliest, macro_f1_of, rate_judge, rate_readings
from epo.judging.labelled_text import read_judge_data
from epo.judging.named_model import NamedModel
from epo.judging.opened_judge import JudgeSettings, open_judge
from epo.judging.sentence_encoder import SentenceEncoder
from epo.judging.word_judge import WordJudge
from epo.model.parts import PartError

HAPPY, SAD, NEUTRAL = (EMOTIONS.index(name) for name in ("happy", "sad", "neutral"))


def test_accuracy_and_macro_f1_by_hand():
    # wanted sad sad sad happy; read sad happy none happy.
    # sad: precision 1, recall 1/3, F1 1/2. happy: precision 1/2, recall 1, F1 2/3. Mean 7/12; accuracy 2/4.
    quality = rate_readings(["sad", "happy", None, "happy"], ["sad", "sad", "sad", "happy"], "aabb", "some")
    assert (quality.accuracy, quality.num_texts, quality.majority) == (0.5, 4, 0.75)
    assert quality.macro_f1 == pytest.approx(7 / 12)
    # always sad: F1 of sad 2 * .75 / 1.75, of happy 0.
    assert quality.majority_macro_f1 == pytest.approx(0.75 / 1.75)
    # of two groups a draw is aa, ab or bb: accuracy 1/2 in each, macro-F1 2/3, 7/12 and (0 + 1) / 2.
    assert quality.accuracy_interval == (0.5, 0.5)
    assert quality.macro_f1_interval == pytest.approx((1 / 2, 2 / 3))


def test_macro_f1_is_that_of_the_metrics():
    draw = np.random.default_rng(0)
    wanted, read = (draw.choice(EMOTIONS[:5], size=300).tolist() for _ in range(2))
    counts = np.zeros((7, 8))
    np.add.at(counts, ([EMOTIONS.index(e) for e in wanted], [EMOTIONS.index(e) for e in read]), 1)
    assert macro_f1_of(counts) == pytest.approx(macro_f1(read, wanted))
    assert accuracy_of(counts) == pytest.approx(np.mean([a == b for a, b in zip(read, wanted, strict=True)]))


def test_hardly_better_in_both_is_little():
    def quality(accuracy, f1):
        return JudgeQuality("t", 100, accuracy, None, f1, None, majority=0.48, majority_macro_f1=0.09)

    assert quality(0.49, 0.15).is_hardly_better
    assert not quality(0.46, 0.36).is_hardly_better, "rare emotions are found, at the price of neutral ones"
    assert not quality(0.60, 0.15).is_hardly_better


def test_one_group_has_no_interval_and_no_text_no_rating():
    judge = WordJudge.fit(["glad", "sorry"], ["happy", "sad"])
    quality = rate_judge(judge, ["glad", "sorry"], ["happy", "sad"], "aa", "t")
    assert quality is not None and quality.accuracy == quality.macro_f1 == 1.0 and quality.accuracy_interval is None
    assert rate_judge(judge, [], [], [], "t") is None


def test_rows_of_the_word_judge_sum_to_one_and_wordless_ones_are_even():
    judge = WordJudge.fit(["glad", "sorry"], ["happy", "sad"])
    rows = judge.read(["glad", "...", "sorry"])
    assert rows.sum(axis=1) == pytest.approx(1.0) and rows[1] == pytest.approx(1 / 7)
    assert rows[0].argmax() == HAPPY and rows[2].argmax() == SAD and rows[0, NEUTRAL] == 0.0
    assert likeliest(judge, ["glad", "..."]) == ["happy", None] and judge.read([]).shape == (0, 7)


def vectors_of(labels, seed=0):
    """Unit vectors around a direction of each label, with noise."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(7, 12))
    found = centres[labels] + draw.normal(size=(len(labels), 12))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_a_head_is_softmax_and_the_same_each_time():
    labels = np.arange(120) % 3
    emotions = [EMOTIONS[label] for label in labels]
    vectors, groups = vectors_of(labels), [str(i // 4) for i in range(120)]
    one, two = (fit_head(vectors, emotions, groups) for _ in range(2))
    assert one.weights_EH.tolist() == two.weights_EH.tolist() and one.strength == two.strength
    rows = one.read(vectors)
    scores = np.exp(vectors @ one.weights_EH[:3].T + one.bias_E[:3])
    assert rows[:, :3] == pytest.approx(scores / scores.sum(axis=1, keepdims=True), abs=1e-5)
    assert rows[:, 3:].max() == 0.0 and (rows.argmax(axis=1) == labels).mean() > 0.6


def test_a_head_of_two_emotions_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    labels = np.array([HAPPY, SAD] * 30)
    vectors = vectors_of(labels)
    head = fit_head(vectors, [EMOTIONS[label] for label in labels], ["one"] * 60)  # one group: C is 1
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-5, class_weight="balanced").fit(vectors, labels)
    assert head.strength == 1.0
    assert head.read(vectors)[:, [HAPPY, SAD]] == pytest.approx(model.predict_proba(vectors), abs=1e-4)


def test_probabilities_by_hand():
    weights = np.zeros((7, 2))
    weights[HAPPY], weights[SAD] = [np.log(3), 0], [0, np.log(2)]
    bias = np.full(7, -np.inf)
    bias[[HAPPY, SAD]] = 0.0
    rows = Head(weights, bias, 1.0).read(np.array([[1, 0], [0, 1]], dtype=np.float32))
    assert rows[0, HAPPY] == pytest.approx(3 / 4) and rows[1, SAD] == pytest.approx(2 / 3)


TRAIN = [
    (f"{'what a lovely day' if i % 2 else 'a sad, sad story'} {i}", "happy" if i % 2 else "sad") for i in range(24)
]


def test_fitted_again_it_is_equal_with_a_cache_and_without(sentence_model, tmp_path, monkeypatch):
    encoder = SentenceEncoder.load(str(sentence_model()))
    texts, emotions = zip(*TRAIN, strict=True)
    fitted = [EmbeddingJudge.fit(encoder, texts, emotions, texts, "e", folder) for folder in (None, tmp_path / "kept")]
    kept = sorted(path.suffix for path in (tmp_path / "kept").iterdir())
    assert kept == [".safetensors"], "few texts are embedded faster than read"
    monkeypatch.setattr("epo.judging.embedding_judge.fit_head", lambda *given: pytest.fail("fitted again"))
    fitted.append(EmbeddingJudge.fit(encoder, texts, emotions, texts, "e", tmp_path / "kept"))
    rows = [judge.read(["a lovely story", "...", "sad day"]).tolist() for judge in fitted]
    assert rows[0] == rows[1] == rows[2] and rows[0][1] == pytest.approx([1 / 7] * 7)
    monkeypatch.undo()
    other = EmbeddingJudge.fit(encoder, texts, ("sad", *emotions[1:-1], "sad"), texts, "e", tmp_path / "kept")
    assert other.read(["a lovely story"]).tolist() != rows[0][:1]


def test_many_embeddings_are_kept(sentence_model, tmp_path, monkeypatch):
    encoder = SentenceEncoder.load(str(sentence_model()))
    texts, emotions = [f"word {i}" for i in range(300)], ["sad", "happy"] * 150
    before = EmbeddingJudge.fit(encoder, texts, emotions, texts, "e", tmp_path / "kept")
    (tmp_path / "kept").joinpath(next(p.name for p in (tmp_path / "kept").glob("*.safetensors"))).unlink()
    monkeypatch.setattr(encoder, "encode", lambda some: pytest.fail("embedded again"))
    after = EmbeddingJudge.fit(encoder, texts, emotions, texts, "e", tmp_path / "kept")
    assert before.head.weights_EH.tolist() == after.head.weights_EH.tolist()


def write(path, rows):
    """One dialogue a row of (split, text, emotion, labelled_by, language)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for i, (split, text, emotion, by, language) in enumerate(rows):
            turn = {"speaker": "user", "text": text} | ({"emotion": emotion} if emotion else {})
            turn |= {"labelled_by": by} if by else {}
            answer = {"speaker": "assistant", "text": "Well."}
            row = {"id": str(i), "split": split, "language": language, "turns": [turn, answer]}
            file.write(json.dumps(row) + "\n")
    return str(path)


def rows_of(pairs, split, by=None, language="en"):
    return [(split, text, emotion, by, language) for text, emotion in pairs]


def test_what_is_held_out_holds_nothing_that_was_learnt(sentence_model, tmp_path):
    rows = rows_of(TRAIN, "train") + rows_of([("never learnt", "angry")], "train", "a model")
    held_out = [("A SAD, sad story 0!", "sad"), ("a lovely thing", "happy"), ("sad again", "sad")]
    path = write(tmp_path / "talks" / "corpus" / "dialogues.jsonl", rows + rows_of(held_out, "test"))
    validated = write(tmp_path / "b" / "dialogues.jsonl", rows_of(TRAIN, "train") + rows_of(held_out[1:], "validation"))
    settings = JudgeSettings("embeddings", str(sentence_model()), (path, validated))
    opened = open_judge(settings, [], [])
    assert opened.fitted_on == {"talks, train": 24, "b, train": 24}
    assert [(q.texts, q.num_texts, q.num_left_out) for q in opened.qualities] == [
        ("talks, test", 2, 1), ("b, validation", 2, 0)
    ]  # fmt: skip
    assert opened.judge.name == "embeddings of sentences" and "macro-F1" in opened.describe()
    assert opened.report()["qualities"][0]["texts"] == "talks, test"


def test_the_corpus_at_hand_is_rated_first(tmp_path):
    held_out = reply_at(Dialogue("d", (Turn("user", "Hi"), Turn("assistant", "a lovely thing", "happy"))), 1)
    path = write(tmp_path / "b" / "dialogues.jsonl", rows_of(TRAIN, "train") + rows_of(TRAIN[:2], "test"))
    opened = open_judge(JudgeSettings(judge_data=(path,)), [], [held_out])
    assert [quality.texts for quality in opened.qualities] == ["its own held-out replies"], "of b all is known"
    assert opened.judge.name == "words" and opened.qualities[0].accuracy == 1.0
    assert "quality is not known" in open_judge(JudgeSettings(judge_data=(path,)), [], []).describe()


def test_several_languages_are_counted_and_doubt_is_told(tmp_path):
    rows = rows_of(TRAIN, "train") + rows_of([("ein schöner Tag", "happy")], "train", language="de")
    noise = [(f"word{i}", "sad" if i % 3 else "happy") for i in range(30)]
    opened = open_judge(
        JudgeSettings(judge_data=(write(tmp_path / "c" / "dialogues.jsonl", rows + rows_of(noise, "test")),)), [], []
    )
    languages, doubt = opened.notes
    assert languages.startswith("The judge of emotions is fitted on texts of 2 languages (24 en, 1 de)")
    assert "hardly better" in doubt and opened.says_little and "hardly better" in opened.describe()


def classifier(make_tokenizer, folder, labels):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_named_model_sums_to_one_over_our_emotions(make_tokenizer, tmp_path):
    name = classifier(make_tokenizer, tmp_path / "m", ["joy", "love", "sadness"])
    judge = NamedModel.load(name, lambda label: {"joy": "happy", "sadness": "sad", "love": None}[label])
    rows, shares = judge.read(["We spoke", "..."]), judge.shares(["We spoke"])
    assert rows.sum(axis=1) == pytest.approx(1.0) and shares.sum() < 1
    assert rows[0] == pytest.approx(shares[0] / shares.sum()) and rows[1] == pytest.approx(1 / 7)


def test_other_labels_and_models_that_are_nowhere(make_tokenizer, tmp_path):
    name = classifier(make_tokenizer, tmp_path / "m", ["POSITIVE", "NEGATIVE"])
    with pytest.raises(DataError, match="its label 'POSITIVE' is not in the label map; .*: name another model, or wor"):
        open_judge(JudgeSettings(name), [], [])
    with pytest.raises(PartError, match="gone: neither a folder nor a reachable hub name"):
        open_judge(JudgeSettings("gone"), [], [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"emotion_judge": "embeddings"}, "embeddings needs a sentence model: set judge_embeddings to a folder or hub"),
        ({"judge_embeddings": "m"}, "judge_embeddings would do nothing: emotion_judge is words; set it to embeddings"),
        ({"emotion_judge": "x/y", "judge_cache": "c"}, "judge_cache would do nothing: emotion_judge is x/y"),
    ],
)
def test_settings_that_lack_one_another(settings, message):
    with pytest.raises(JudgeError, match=message):
        JudgeSettings(**settings)


def test_text_that_nothing_can_be_learnt_from(tmp_path):
    with pytest.raises(DataError, match="gone.jsonl: no such file"):
        read_judge_data(str(tmp_path / "gone.jsonl"))
    path = write(tmp_path / "d" / "dialogues.jsonl", rows_of(TRAIN, "test") + rows_of(TRAIN, "train", "a model"))
    with pytest.raises(DataError, match="turns of train whose emotion people gave, found 24 of test; name a file"):
        read_judge_data(path)
    settings = JudgeSettings("embeddings", "gone")
    with pytest.raises(JudgeError, match="at least two emotions, found none in its own training replies; name"):
        open_judge(settings, [], [])

"""BERTScore through the real package, with encoders made on the spot."""

import string

import pytest
from transformers import BertConfig, BertModel, BertTokenizerFast, RobertaConfig, RobertaModel

from epo.evaluation.bert_score import BertEncoder, BertScoreError

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
_WORDS += [f"##{letter}" for letter in string.ascii_lowercase]
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def make_encoder(tmp_path_factory):
    """Write an encoder that reads letters; keyword arguments go to its tokenizer."""

    def make(model, **settings):
        folder = tmp_path_factory.mktemp("bert")
        (folder / "vocab.txt").write_text("\n".join(_WORDS))
        BertTokenizerFast(str(folder / "vocab.txt"), **settings).save_pretrained(folder)
        model.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="module")
def encoder(make_encoder):
    model = BertModel(BertConfig(vocab_size=len(_WORDS), **_SIZES))
    return BertEncoder(make_encoder(model, model_max_length=64), 2)


def test_the_gold_itself_scores_one_and_another_reply_less(encoder):
    same, other = encoder.f1s(["hello there", "hello there"], ["hello there", "quite unlike it"])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < 0.999


def test_a_reply_without_words_scores_nothing_and_leaves_the_others_as_they_are(encoder):
    replies, golds = ["hello there", "", "...", "so long", "good"], ["hi you", "hello", "hello", "and now", "..."]
    alone = encoder.f1s(["hello there", "so long"], ["hi you", "and now"])
    assert encoder.f1s(replies, golds) == pytest.approx([alone[0], 0.0, 0.0, alone[1], 0.0], abs=1e-6)
    assert encoder.f1s([""], ["x"]) == [0.0] and encoder.f1s([], []) == []


@pytest.mark.parametrize(
    ("model", "longest"),
    [
        (lambda: BertModel(BertConfig(vocab_size=len(_WORDS), max_position_embeddings=20, **_SIZES)), 20),
        # Its positions begin after the padding id, 1: two of the twenty are never used.
        (lambda: RobertaModel(RobertaConfig(vocab_size=len(_WORDS), max_position_embeddings=20, **_SIZES)), 18),
    ],
    ids=["bert", "roberta"],
)
def test_a_tokenizer_that_names_no_length_is_cut_at_the_models(make_encoder, model, longest):
    """Such a tokenizer says 10^30, which the package hands on to code that takes 64 bits."""
    long = BertEncoder(make_encoder(model()), 1)
    assert long._scorer._tokenizer.model_max_length == longest
    (score,) = long.f1s(["ab " * 200], ["ab " * 200])
    assert score == pytest.approx(1.0, abs=1e-5)


def test_a_revision_is_refused_which_the_package_would_ignore():
    with pytest.raises(BertScoreError, match="reads the newest revision only; .*hf download o/m --revision v1 "):
        BertEncoder("o/m@v1", 2)


def test_an_unknown_model_is_named(tmp_path):
    with pytest.raises(BertScoreError, match="bert_score_model '.*nothing', bert_score_layer 2"):
        BertEncoder(str(tmp_path / "nothing"), 2)

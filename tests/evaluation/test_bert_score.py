"""BERTScore through the real package, with an encoder made on the spot."""

import string

import pytest
from transformers import BertConfig, BertModel, BertTokenizerFast

from epo.evaluation.bert_score import BertScoreError, bert_f1


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    letters = string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_the_gold_itself_scores_one_and_another_reply_less(encoder):
    assert bert_f1(["hello there"], ["hello there"], encoder, 2) == pytest.approx(1.0, abs=1e-5)
    assert bert_f1(["hello there"], ["quite unlike it"], encoder, 2) < 0.999


def test_an_unknown_model_is_named(tmp_path):
    with pytest.raises(BertScoreError, match="bert_score_model '.*nothing', bert_score_layer 2"):
        bert_f1(["a"], ["a"], str(tmp_path / "nothing"), 2)

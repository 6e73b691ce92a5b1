"""Sentence encoder: pooled as its files say, whatever the batch; what it cannot pool is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from epo.data.dialogue import DataError
from epo.judging.sentence_encoder import SentenceEncoder
from epo.model.parts import PartError
from epo.preferences.embedding import EmbeddingIndex

TEXTS = ["We spoke again, part 1.", "I am", "We spoke again, part 1.", "No"]


def by_hand(folder, text, mode):
    """The states of one text alone, without padding."""
    from transformers import AutoTokenizer, BertModel

    batch = AutoTokenizer.from_pretrained(folder)([text], return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state[0]
    return (states[0] if mode == "cls" else states.mean(dim=0)).numpy()


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [
        ("mean", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "word_embedding_dimension": 16}),
        ("cls", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("cls", {"pooling_mode": "cls"}),
    ],
)
def test_padding_changes_nothing(sentence_model, mode, pooling):
    folder = sentence_model(("Transformer", "Pooling"), pooling)
    vectors = SentenceEncoder.load(str(folder)).encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 16)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector == pytest.approx(by_hand(folder, text, mode), abs=1e-5)
    assert vectors[0].tolist() == vectors[2].tolist()


def test_normalised_cut_off_and_lower_cased(sentence_model):
    encoder = SentenceEncoder.load(str(sentence_model(settings={"max_seq_length": 3, "do_lower_case": True})))
    first, longer, upper = encoder.encode(["we spoke again", "we spoke again and again", "WE SPOKE AGAIN"])
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-6)
    assert first == pytest.approx(longer, abs=1e-6) and first == pytest.approx(upper, abs=1e-6)
    assert encoder.encode([]).shape == (0, 16)


def test_a_digest_tells_models_and_poolings_apart(sentence_model):
    one, same = (SentenceEncoder.load(str(sentence_model(name=name))).digest for name in ("a", "b"))
    cls = SentenceEncoder.load(str(sentence_model(pooling={"pooling_mode": "cls"}, name="c"))).digest
    assert one == same != cls


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (("Transformer", "Pooling", "Dense"), None, "modules.json asks for Transformer, Pooling, Dense; supported are"),
        (("Transformer",), None, "asks for Transformer; supported are"),
        (None, {"pooling_mode_max_tokens": True}, "its pooling is pooling_mode_max_tokens; supported are the mean"),
        (None, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "its pooling is mean, cls; supp"),
        (None, {}, "its pooling is not said"),
    ],
)
def test_what_it_cannot_pool_is_refused(sentence_model, modules, pooling, message):
    folder = sentence_model(*([modules] if modules is not None else []), pooling=pooling)
    with pytest.raises(DataError, match=message):
        SentenceEncoder.load(str(folder))


def test_files_that_are_none_and_models_that_are_nowhere(sentence_model):
    folder = sentence_model()
    for content, message in (("[", "modules.json: not JSON"), ('{"a": 1}', "is no list of modules with a `type`")):
        (folder / "modules.json").write_text(content)
        with pytest.raises(DataError, match=message):
            SentenceEncoder.load(str(folder))
    rows = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../elsewhere"}]
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="supported are"):
        SentenceEncoder.load(str(folder))
    (folder / "modules.json").unlink()
    assert SentenceEncoder.load(str(folder)).encode(["We"])[0] == pytest.approx(by_hand(folder, "We", "mean"), abs=1e-5)
    with pytest.raises(PartError, match="gone/away: neither a folder nor a reachable hub name"):
        SentenceEncoder.load("gone/away")


def test_retrieval_ranks_by_what_it_embeds(sentence_model):
    encoder = SentenceEncoder.load(str(sentence_model(("Transformer", "Pooling"))))
    scores = EmbeddingIndex(["We spoke"], ["No", "We spoke"], encoder).similarity(np.array([0]), np.array([0, 1]))
    assert scores[0, 1] == pytest.approx(1.0, abs=1e-5) and scores[0, 0] < scores[0, 1]


@pytest.mark.skipif("EPO_PARTS_ROOT" not in os.environ, reason="EPO_PARTS_ROOT names no folder with real models")
def test_a_real_model_finds_what_means_the_same():
    encoder = SentenceEncoder.load(str(Path(os.environ["EPO_PARTS_ROOT"]) / "minilm-l6-v2"))
    lost, gone, lunch = encoder.encode(["I lost my keys.", "My keys are gone.", "Lunch was great today!"])
    assert lost @ gone > 0.6 > 0.3 > lost @ lunch

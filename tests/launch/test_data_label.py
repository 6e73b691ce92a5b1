"""`data label` as a user runs it: by a model in a folder, by the corpus itself, by an extractor; what is refused."""

import json

import pytest

from epo.data.dialogue import read_dialogues
from launch.data_verbs import labelling
from launch.recipe import RecipeError


@pytest.fixture
def file(corpus, tmp_path):
    """The corpus with every other reply, and the user turn of dialogue 0, without emotion."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path in corpus.iterdir():
        if path.suffix in (".wav", ".mp4"):
            (folder / path.name).hardlink_to(path)
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):
        for turn in row["turns"]:
            if turn["speaker"] == "assistant" and place % 2 == 0 or place == 0:
                turn.pop("emotion", None)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "dialogues.jsonl"


def label(file, model, what, *more):
    out = file.parents[1] / "out"
    labelling.run([str(file), "--model", str(model), "--what", what, "--out", str(out), *more])
    return list(read_dialogues(out / "dialogues.jsonl")), json.loads((out / "labels.json").read_text())


def test_a_classifier_in_a_folder_labels_replies(file, make_tokenizer, tmp_path, capsys):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "joy", 1: "sadness"}, label2id={"joy": 0, "sadness": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "my-model")
    tokenizer.save_pretrained(tmp_path / "my-model")
    before = list(read_dialogues(file))
    after, row = label(file, tmp_path / "my-model", "replies", "--min_confidence", "0")
    for old, new in zip(before, after, strict=True):
        for turn, labelled in zip(old.turns, new.turns, strict=True):
            is_due = turn.speaker == "assistant" and turn.emotion is None and old.split != "test"
            assert labelled.labelled_by == ("my-model" if is_due else None)
            assert labelled.emotion in ("happy", "sad") if is_due else labelled.emotion == turn.emotion
            assert (labelled.clip is None) == (turn.clip is None)
    assert (
        set(row["labelled"]) == {"train", "validation"} and row["passed_over"] > 0 and row["rating"]["train"]["count"]
    )
    assert "turns that people labelled (always the commonest" in capsys.readouterr().out


def test_the_corpus_and_a_test_split_on_demand(file):
    after, row = label(file, "corpus", "words", "--splits", "test", "--min_confidence", "0")
    assert {d.split for d in after for turn in d.turns if turn.labelled_by == "corpus words"} == {"test"}
    assert set(row["labelled"]) == {"test"} and "train, folds held out" in row["rating"]


def sentences(folder, make_tokenizer):
    """A sentence model of one layer; without modules.json it is pooled by the mean."""
    from transformers import BertConfig, BertModel

    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_judge_that_learnt_from_other_files_labels_replies(file, make_tokenizer, tmp_path, capsys):
    model = sentences(tmp_path / "minis", make_tokenizer)
    more = ("--judge_embeddings", model, "--judge_cache", str(tmp_path / "kept"), "--min_confidence", "0")
    after, row = label(file, "embeddings", "replies", "--judge_data", str(file), *more)
    assert {turn.labelled_by for dialogue in after for turn in dialogue.turns} == {None, "embeddings of minis"}
    told = capsys.readouterr().out
    assert "judge right on " in told and ", macro-F1 " in told and row["model"] == "embeddings"
    again, _ = label(file, "embeddings", "replies", "--judge_data", str(file), *more)
    assert again == after and list((tmp_path / "kept").glob("*.safetensors"))
    label(file, "embeddings", "replies", *more)  # without files it learns from the corpus's own training replies


def test_an_extractor_labels_clips(file, make_extractor, reader, tmp_path):
    make_extractor().save_pretrained(tmp_path / "extractor")
    reader.save(tmp_path / "extractor")
    after, row = label(file, tmp_path / "extractor", "clips", "--min_confidence", "0")
    first = next(turn for turn in after[0].turns if turn.clip is not None)
    assert first.labelled_by == "extractor" and first.emotion is not None
    assert sum(sum(found.values()) for found in row["labelled"].values()) == 1


def test_mistakes_are_refused(file, tmp_path):
    with pytest.raises(RecipeError, match="never written over"):
        labelling.run([str(file), "--model", "corpus", "--what", "replies", "--out", str(file.parent)])
    for model, what, more, message in (
        ("corpus", "clips", [], "reads words; for clips name the folder of an extractor stage"),
        ("corpus", "words", ["--labels", "meld"], "only a text classifier has labels"),
        ("corpus", "words", ["--min_confidence", "2"], "want a probability"),
        (
            "corpus",
            "words",
            ["--judge_embeddings", "m"],
            "--judge_embeddings: belongs to --model embeddings, and --mod",
        ),
        ("embeddings", "words", [], "embeddings needs a sentence model: set judge_embeddings"),
        ("embeddings", "clips", [], "reads words; for clips name the folder"),
        ("embeddings", "words", ["--labels", "meld"], "only a text classifier has labels"),
        (tmp_path, "clips", [], "want the folder that launch/extractor.py wrote"),
    ):
        with pytest.raises(ValueError, match=message):
            label(file, model, what, *more)

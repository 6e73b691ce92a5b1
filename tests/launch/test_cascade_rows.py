"""The cascade's rows from folders: words as written and as recognised, emotions by an extractor or a tuned model."""

import json
from types import SimpleNamespace

import pytest
import torch

from epo.data.dialogue import read_dialogues
from epo.data.replies import replies_of
from epo.data.transcripts import with_transcripts
from epo.emotions import EMOTIONS
from epo.evaluation import cascade
from epo.evaluation.contestants import Generation
from epo.evaluation.suite import Task
from epo.model.quantized import is_quantized
from launch.cascade_rows import cascade_rows

DEVICE = torch.device("cpu")


@pytest.fixture
def recipe(corpus, tmp_path, make_llm, make_tokenizer):
    for half in (make_llm(), make_tokenizer()):
        half.save_pretrained(tmp_path / "lm")
    keys = {"data": str(corpus / "dialogues.jsonl"), "cascade": str(tmp_path / "lm"), "dtype": "float32"}
    return SimpleNamespace(**keys, quantize="none", cascade_extractor=None, transcripts=None, cache_dir=None)


def rows_of(recipe, dialogues):
    task = Task([reply for reply in replies_of(dialogues, "last")][:4])
    return {row.name: row.replies for row in cascade_rows(recipe, task, Generation(4, 2), DEVICE)}


def test_nothing_is_asked_where_no_cascade_is_named():
    assert list(cascade_rows(SimpleNamespace(cascade=None), None, None, DEVICE)) == []


def test_labels_come_from_an_extractors_folder_or_a_tuned_models_and_words_from_transcripts(
    recipe, tmp_path, make_extractor, make_model, make_tokenizer, reader, monkeypatch
):
    tokenizer = make_tokenizer()
    asked = lambda llm, processor, prompts, *settings, label: [tokenizer.decode(p.input_ids) for p in prompts]  # noqa: E731
    monkeypatch.setattr(cascade, "generate_replies", asked)
    dialogues = list(read_dialogues(recipe.data))
    (gold,) = rows_of(recipe, dialogues).values()
    assert "(sad) We spoke again, part 0." in gold[0]
    make_extractor().save_pretrained(tmp_path / "extractor")
    reader.save(tmp_path / "extractor")
    for half in make_model():
        half.save_pretrained(tmp_path / "sft")
    path = tmp_path / "heard.jsonl"
    lines = [{"dialogue_id": d.id, "turn": len(d.turns) - 2, "text": f"We poke {d.id}."} for d in dialogues]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe.transcripts = str(path)
    for folder in ("extractor", "sft"):
        recipe.cascade_extractor = str(tmp_path / folder)
        _, felt, heard = rows_of(recipe, with_transcripts(dialogues, path)).values()
        assert (
            "We spoke again, part 1." in felt[1]
            and "We poke d1." in heard[1]
            and "spoke" not in heard[1].split("lake")[-1]
        )
        assert all(any(f"({emotion})" in row for emotion in EMOTIONS) for row in felt)


def test_quantize_holds_the_cascades_language_model_too(recipe, monkeypatch):
    held = []
    monkeypatch.setattr(
        cascade, "generate_replies", lambda llm, *rest, **named: held.append(is_quantized(llm)) or [""] * 4
    )
    for recipe.quantize in ("none", "8bit"):
        rows_of(recipe, list(read_dialogues(recipe.data)))
    assert held == [False, True]

"""The cascade's rows: which emotion and which words the language model reads in each."""

from dataclasses import replace

import pytest

from epo.evaluation import cascade
from epo.evaluation.cascade import Cascade
from epo.evaluation.contestants import Generation
from epo.prompts.text_prompts import TextPrompts
from launch.recipe import RecipeError
from launch.sft import SftRecipe


@pytest.fixture
def read(monkeypatch, make_tokenizer):
    """The rows, and the last line that each asks: the language model's answer is what it read."""
    tokenizer = make_tokenizer()

    def repeat(llm, processor, prompts, *settings, label):
        assert processor.batch_context(prompts) == {}
        return [tokenizer.decode(prompt.input_ids) for prompt in prompts]

    monkeypatch.setattr(cascade, "generate_replies", repeat)
    return Cascade(None, TextPrompts(tokenizer), Generation())


def test_each_row_reads_the_label_and_the_words_that_it_says(read, examples):
    gold = [replace(e, current=replace(e.current, emotion="sad", text="I left.")) for e in examples[:2]]
    heard = [replace(e, current=replace(e.current, text="I laughed.")) for e in gold]
    rows = {row.name: row.replies for row in read.rows(gold, ["happy", None], heard)}
    assert list(rows) == [
        "cascade, gold label + gold words",
        "cascade, recognised label + gold words",
        "cascade, recognised label + recognised words",
    ]
    asked = [["(sad) I left.", "(sad) I left."], ["(happy) I left.", "I left."], ["(happy) I laughed.", "I laughed."]]
    for replies, wanted in zip(rows.values(), asked, strict=True):
        for reply, words in zip(replies, wanted, strict=True):
            assert words in reply and ("(" in words) == ("(" in reply)
    assert [row.name for row in read.rows(gold, None, heard)] == ["cascade, gold label + gold words"]
    assert len(list(read.rows(gold, ["happy", None], None))) == 2


@pytest.mark.slow
def test_a_real_language_model_answers_in_text_alone(examples, make_llm, make_tokenizer):
    rows = Cascade(make_llm(), TextPrompts(make_tokenizer()), Generation(batch_size=2, max_new_tokens=3))
    (gold,) = rows.rows(examples[:3], None, None)
    assert len(gold.replies) == 3 and gold.contestant is None


def test_words_are_taken_out_of_prompts_only_where_the_clip_can_answer():
    common = {"data": "d", "llm": "l", "extractor": "e", "compressor": "c"}
    only_clips = {"require_clip": True, "clip_dropout": 0.0}
    assert SftRecipe(**common, user_words=True).prompt_parts[-1] == "words"  # as YAML reads `true`
    recipe = SftRecipe(**common, **only_clips, user_words="false")
    assert recipe.prompt_parts == ["system", "memory", "clip", "emotion_word"]
    for keys, message in (
        ({"user_words": "false"}, "set require_clip: true, clip_dropout: 0"),
        ({"user_words": False, "require_clip": True}, "set require_clip: true, clip_dropout: 0"),
        ({"user_words": "asr"}, "asr needs transcripts, and transcripts need user_words: asr"),
        ({"transcripts": "t"}, "asr needs transcripts, and transcripts need user_words: asr"),
    ):
        with pytest.raises(RecipeError, match=message):
            SftRecipe(**(common | keys))
    with pytest.raises(RecipeError, match="settled where a model is joined from its parts"):
        SftRecipe(data="d", llm="l", input="text", user_words="false")

"""The layout of a prompt: one order for every stage, parts from outside, and what makes no prompt refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoProcessor

from compressor.chat import chat_format
from compressor.data import CompressionCollator
from epo.data.dialogue import DataError, Turn
from epo.data.replies import Reply
from epo.evaluation.text_recall import text_recall
from epo.model.clip_reader import ClipFeatures
from epo.model.processing import EpoProcessor
from epo.prompts.emotion_label import label, reply_text, split_reply
from epo.prompts.histories import history_of
from epo.prompts.layout import LAYOUT, Layout, LayoutError, question
from epo.prompts.marks import add_placeholders
from epo.prompts.part import PARTS, Asked, Past, Text
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import PairCollator, PromptBuilder, SftCollator, TextCollator

HISTORY = (Turn("user", "I met Mira."), Turn("assistant", "Where?"))
CURRENT = Turn("user", "At the lake.", "happy", description="The voice is high and quick.")
REPLY = Reply("d", 3, HISTORY, CURRENT, "How nice!", "happy")
CLIP = ClipFeatures(np.zeros((16, 100), np.float32), np.zeros((2, 3, 16, 16), np.float32))


@pytest.fixture
def words(make_tokenizer):
    words = make_tokenizer()
    add_placeholders(words)
    return words


@pytest.fixture
def clock():
    """A part that another package brings: the time of day, before the words."""
    yield PARTS.register("clock", Text("user", lambda asked: f"It is {len(asked.history)} o'clock. "))
    PARTS.forget("clock")


WITH_CLOCK = ("system", "memory", "clip", "emotion_word", "clock", "words")


def test_ours_are_listed_by_themselves():
    assert {*LAYOUT, "turns", "description", "omni_clip"} <= set(PARTS.names())


def test_a_part_from_outside_is_read_in_every_stage(
    clock, make_model, examples, pairs, clip_cache, make_tokenizer, make_llm, tmp_path
):
    model, processor = make_model(prompt_parts=WITH_CLOCK)
    processor.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)  # as EPO and evaluation load it
    read, layout = processor.tokenizer.decode, Layout(WITH_CLOCK)
    build, row = PromptBuilder(processor, clip_cache), {"index": 0, "seed": 0, "progress": 0.9}
    said = f"It is 2 o'clock. {examples[0].current.text}<|end|>"
    sft = read(SftCollator(examples, build)([row])["input_ids"][0])
    epo = [read(ids) for ids in PairCollator(pairs, build)([row])["input_ids"]]
    evaluated = read(build(examples[0]).input_ids)
    as_text = read(processor.encode_prompt(examples[0].history, examples[0].current, CLIP, use_memory=False).input_ids)
    warmed = read(TextPrompts(processor.tokenizer, layout).encode_prompt(examples[0], names_emotion=True))
    for text in (sft, *epo, evaluated, as_text, warmed):
        assert said in text, text
    assert "(sad) It is 2 o'clock." in warmed and f"<|video|>{said}" in sft and sft.startswith(evaluated)
    history = history_of(examples[0], layout, names_emotion=False)
    batch = CompressionCollator(make_tokenizer(), processor.tokenizer, 320, 2)([{"history": history, "target_turn": 0}])
    assert said in read(batch["reply_ids"][0]) and said in read(batch["text_ids"][0])
    assert "o'clock" not in read(batch["turn_ids"][0])  # a turn is rebuilt from its memory alone


def test_a_model_whose_part_is_not_installed_is_refused_by_name(make_model, clock, tmp_path):
    model, processor = make_model(prompt_parts=WITH_CLOCK)
    processor.save_pretrained(tmp_path)
    settings = tmp_path / "processor_config.json"
    settings.write_text(settings.read_text().replace('"clock"', '"weather"'))
    with pytest.raises(LayoutError, match=r"no prompt part is called 'weather'; the nearest is .* install the package"):
        EpoProcessor.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
    from epo.model.loading import load_model
    from epo.part_names import PartError

    with pytest.raises(PartError, match=f"^{tmp_path}: prompt_parts: no prompt part is called 'weather'"):
        load_model(str(tmp_path), "float32")


def test_a_processor_saved_before_there_were_parts_reads_as_ever(make_model, tmp_path):
    _, processor = make_model()
    processor.save_pretrained(tmp_path)
    settings = tmp_path / "processor_config.json"
    told = json.loads(settings.read_text())
    assert told.pop("prompt_parts") == list(LAYOUT)
    settings.write_text(json.dumps(told))
    assert EpoProcessor.from_pretrained(tmp_path).prompt_parts == list(LAYOUT)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["system", "word"], "no prompt part is called 'word'; the nearest is 'words'"),
        (["words", "memory", "words"], "'words' comes twice"),
        (["memory", "turns", "words"], "memory and turns both tell the history"),
        (["system", "memory"], "nothing in it asks for a reply; add 'words'"),
        ([], "none: nothing in it asks for a reply"),
        ("words", "'words' is no list of names"),
        ([3], r"\[3\] is no list of names"),
    ],
)
def test_parts_that_make_no_prompt_are_refused(names, message):
    with pytest.raises(LayoutError, match=f"^prompt_parts: .*{message}"):
        Layout(names)


def test_a_thing_that_is_no_part_is_refused():
    PARTS.register("shout", str.upper)
    try:
        with pytest.raises(LayoutError, match="'shout' is a method_descriptor, want a Text or a Past"):
            Layout(("shout", "words"))
    finally:
        PARTS.forget("shout")


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("memory", "words"), "<|memory|><|memory|><|memory|><|memory|>At the lake."),
        (("words", "memory"), "At the lake.<|memory|><|memory|><|memory|><|memory|>"),
        (("emotion_word", "memory", "words"), "(happy) <|memory|><|memory|><|memory|><|memory|>At the lake."),
        (("description", "words"), "[The voice is high and quick.] At the lake."),
        (("words",), "At the lake."),
    ],
)
def test_parts_stand_in_the_order_of_the_layout(words, names, asked):
    layout = Layout(names)
    kept, ids = layout.encode(chat_format(words), Asked(HISTORY, CURRENT, names_emotion=True), None, 2)
    assert words.decode(ids) == f"<|user|>{asked}<|end|><|assistant|>"
    assert kept == (2 if layout.has_memory else 0)


def test_written_out_the_history_stands_before_the_message_wherever_its_memories_stood(words):
    for names in (("memory", "words"), ("words", "memory")):
        kept, ids = Layout(names).as_text().encode(chat_format(words), Asked(HISTORY, CURRENT), None)
        assert words.decode(ids) == (
            "<|user|>I met Mira.<|end|><|assistant|>Where?<|end|><|user|>At the lake.<|end|><|assistant|>"
        )
        assert kept == 2


def test_without_a_history_part_nothing_is_remembered(make_model):
    _, processor = make_model(prompt_parts=["clip", "words"])
    prompt = processor.encode_prompt(HISTORY, CURRENT, CLIP)
    assert (prompt.history_ids, prompt.num_history_tokens) == ([], 0)


def test_a_part_of_the_system_message_joins_it(words):
    PARTS.register("mood", Text("system", lambda asked: " Be brief."))
    try:
        layout = Layout(("system", "mood", "words"), system_prompt="Be kind.")
        assert layout.fixed(Asked((), CURRENT)).system == "Be kind. Be brief."
    finally:
        PARTS.forget("mood")


def test_a_special_token_in_any_parts_words_is_refused(make_model):
    _, processor = make_model(prompt_parts=["memory", "clip", "description", "words"])
    forged = replace(CURRENT, description="Loud <|audio|> here")
    with pytest.raises(DataError, match=r"'\[Loud <\|audio\|> here\] ' contains '<\|audio\|>'"):
        processor.encode_prompt(HISTORY, forged, CLIP)
    make_model()[1].encode_prompt(HISTORY, forged, CLIP)  # where no part tells it, it does no harm


@pytest.mark.parametrize("text", ["I am here.", "Well (really) so.", "(Laughs) Yes.", "Ü?", "a)b"])
@pytest.mark.parametrize("emotion", ["sad", "angry"])
def test_a_label_is_read_as_it_was_written(text, emotion):
    assert split_reply(reply_text(text, emotion)) == (emotion, text)
    assert label(emotion) == f"({emotion}) " and label(None) == ""


def test_text_tuning_and_its_gate_read_the_same_prompt(words, make_llm):
    prompts = TextPrompts(words, Layout(("description", *LAYOUT)))
    heard, llm = [], make_llm()
    generate = llm.generate
    llm.generate = lambda **inputs: heard.append(inputs["input_ids"][0].tolist()) or generate(**inputs)
    text_recall(llm, prompts, [REPLY], [("Mira",)], max_new_tokens=1)
    assert words.decode(heard[0]).endswith(
        "<|user|>[The voice is high and quick.] (happy) At the lake.<|end|><|assistant|>"
    )
    batch = TextCollator([REPLY], prompts, _all_turns(), 0.5)([{"index": 0, "seed": 0, "progress": 0.9}])
    prompt = batch["input_ids"][0][batch["loss_weights"][0] == 0.5]
    assert prompt.tolist() == heard[0]


def test_a_question_is_a_users_message(words):
    assert words.decode(question(chat_format(words), "Rewrite it.")) == "<|user|>Rewrite it.<|end|><|assistant|>"


def test_a_history_part_says_whether_it_is_memory():
    assert PARTS.get("memory") == Past(is_memory=True) and PARTS.get("turns") == Past(is_memory=False)


def _all_turns():
    from compressor.curriculum import Curriculum

    return Curriculum(short=0, medium=0)

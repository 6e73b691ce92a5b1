"""The built-in tokenizer's prompts are, token for token, those that the printed figures were made with."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from compressor.curriculum import Curriculum
from compressor.data import CompressionCollator
from compressor.trainer import CurriculumCollator
from epo.data.corpora.builtin import BuiltinCorpus
from epo.data.corpora.builtin.script import write_script
from epo.data.dialogue import Turn
from epo.data.replies import replies_of
from epo.model.clip_reader import ClipFeatures
from epo.model.tokenizer import train_tokenizer
from epo.prompts.emotion_label import reply_text
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import TextCollator

TURNS = (Turn("user", "I met Mira."), Turn("assistant", "Where?"))


def test_prompts_and_replies_are_spelled_as_ever(make_model):
    _, processor = make_model()
    words = processor.tokenizer

    def plain(text):
        return words.encode(text, add_special_tokens=False)

    memory = processor.encode_prompt(TURNS, Turn("user", "And now?"), ClipFeatures())
    assert memory.input_ids == plain("<|user|>" + "<|memory|>" * 4 + "And now?<|end|><|assistant|>")
    text = processor.encode_prompt(TURNS, Turn("user", "And now?"), ClipFeatures(), use_memory=False)
    assert text.input_ids == plain(
        "<|user|>I met Mira.<|end|><|assistant|>Where?<|end|><|user|>And now?<|end|><|assistant|>"
    )
    assert processor.encode_reply("Mira.", "sad") == [*plain("(sad) Mira."), words.eos_token_id]
    assert processor.chat.encode_start("(sad)") == plain("(sad)") and processor.chat.stop_ids == [words.eos_token_id]


@pytest.fixture(scope="module")
def builtin():
    dialogues = [write_script(BuiltinCorpus(), "train", index) for index in range(40)]
    return dialogues, [example for example in replies_of(dialogues, "all") if example.history]


def digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def batches(collate, num_examples):
    """Ids and labels of a hundred positions spread over the whole curriculum."""
    found = []
    for place in range(100):
        batch = collate([{"index": place % num_examples, "seed": place, "progress": place / 100}])
        found.append([[name, batch[name].tolist()] for name in sorted(batch)])
    return found


def test_training_batches_are_those_of_the_first_figures(builtin):
    """Made with the code of the quickstart's figures, before `compressor.chat` wrote the prompts."""
    dialogues, examples = builtin
    words = train_tokenizer([reply_text(turn.text, turn.emotion) for d in dialogues for turn in d.turns], 600)
    history_words = train_tokenizer([turn.text for d in dialogues for turn in d.turns], 600)
    text = batches(TextCollator(examples, TextPrompts(words), Curriculum(), 0.15), len(examples))
    add_placeholders(words)
    histories = [history_of(example, Layout(), i % 2 == 0) for i, example in enumerate(examples)]
    collator = CompressionCollator(history_words, words, 600, 4)
    memory = batches(CurriculumCollator(histories, Curriculum(0.05, 0.55, 0.2), collator), len(examples))
    assert (digest(text), digest(memory)) == ("7433195bb80dc0a9", "828d8c1a1220b31d")


def test_the_whole_models_prompts_are_those_of_the_first_figures(make_model, examples):
    """Made with the code of the quickstart's figures, before `epo.prompts` wrote the prompts."""
    audio, video = np.zeros((16, 100), np.float32), np.zeros((2, 3, 16, 16), np.float32)
    clips = [ClipFeatures(a, v) for a in (audio, None) for v in (video, None)]
    rows = []
    for settings in ({}, {"system_prompt": "Be kind.", "max_prompt_tokens": 70}):
        _, processor = make_model(**settings)
        for reply in examples:
            rows.append(processor.encode_reply(reply.text, reply.emotion))
            for clip, use_memory in itertools.product(clips, (True, False)):
                prompt = processor.encode_prompt(reply.history, reply.current, clip, use_memory)
                rows.append([prompt.input_ids, prompt.history_ids, prompt.num_history_tokens])
    assert digest(rows) == "3bb91100a94932e8"

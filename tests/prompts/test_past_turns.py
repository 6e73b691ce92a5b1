"""Past turns with and without their emotion: one line for the compressor, one message for a reader of text."""

import pytest

from compressor.data import CompressionCollator
from compressor.utterance import Utterance
from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.prompts.emotion_label import label, reply_text, said_turn, split_reply
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders
from epo.prompts.part import Asked
from epo.prompts.past_turns import utterance_of
from epo.prompts.text_prompts import TextPrompts

SAD, PLAIN, KIND = Turn("user", "I lost it.", "sad"), Turn("user", "It rains."), Turn("assistant", "Oh no.", "neutral")


@pytest.mark.parametrize(
    ("turn", "is_on", "line", "content"),
    [
        (SAD, True, "user (sad): I lost it.", "(sad) I lost it."),
        (SAD, False, "user: I lost it.", "I lost it."),
        (PLAIN, True, "user: It rains.", "It rains."),
        (KIND, True, "assistant (neutral): Oh no.", "(neutral) Oh no."),
    ],
)
def test_a_past_turn_tells_its_emotion_where_it_has_one_and_is_asked(turn, is_on, line, content):
    told = utterance_of(turn, is_on)
    assert told.line == line and told.message == {"role": turn.speaker, "content": content}


def test_a_label_in_a_history_is_the_label_of_a_reply():
    assert Utterance("assistant", "Oh no.", "sad").message["content"] == reply_text("Oh no.", "sad")
    assert split_reply(Utterance("user", "Oh.", "sad").message["content"]) == ("sad", "Oh.")
    assert label(None) == ""


@pytest.mark.parametrize(
    ("reply", "turn"),
    [
        ("(sad) Oh no.", Turn("assistant", "Oh no.", "sad")),
        ("( Sad ) Oh no.", Turn("assistant", "Oh no.", "sad")),
        ("(baffled) Oh no.", Turn("assistant", "Oh no.")),  # no emotion of ours: nothing is told
        ("Oh no.", Turn("assistant", "Oh no.")),
    ],
)
def test_what_a_model_said_becomes_a_turn_with_its_own_label(reply, turn):
    assert said_turn(reply) == turn


@pytest.fixture
def reply():
    return Reply("d", 4, (SAD, KIND, PLAIN), Turn("user", "And now?", "happy"), "Rest.", "neutral")


def decode(tokenizer, ids):
    return tokenizer.decode([token for token in ids if token < len(tokenizer)])


@pytest.mark.parametrize("is_on", [True, False])
def test_compressor_and_its_teacher_read_the_same_emotions(reply, is_on, make_tokenizer):
    """The turn that is rebuilt from its memory is the line itself; its label is never that of the current turn."""
    llm_words, words = make_tokenizer(), make_tokenizer()
    add_placeholders(llm_words)
    history = history_of(reply, Layout(history_emotions=is_on), names_emotion=False)
    batch = CompressionCollator(words, llm_words, 320, 2)([{"history": history, "target_turn": 0}])
    read = decode(words, batch["input_ids"][0].tolist()[:-2])
    taught = decode(llm_words, batch["text_ids"][0].tolist())
    rebuilt = decode(llm_words, [token for token in batch["turn_labels"][0].tolist() if token >= 0])
    mark, bracket = ("(sad) ", " (sad)") if is_on else ("", "")
    assert f"user{bracket}: I lost it." in read and ("assistant (neutral): Oh no." in read) == is_on
    assert f"<|user|>{mark}I lost it." in taught and "happy" not in taught + read
    assert f"user{bracket}: I lost it." in rebuilt


def test_a_model_that_reads_text_alone_reads_them_too(reply, tokenizer):
    def text(layout):
        return tokenizer.decode(TextPrompts(tokenizer, layout).encode_prompt(reply, names_emotion=False))

    assert "(sad) I lost it." in text(Layout(history_emotions=True)) and "(sad)" not in text(Layout())
    with_label = Layout(["system", "turns", "words"], history_emotions=True).encode
    chat = TextPrompts(tokenizer).chat
    assert "(neutral) Oh no." in tokenizer.decode(with_label(chat, Asked(reply.history, reply.current), None)[1])

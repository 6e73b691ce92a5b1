"""Any chat template: prompts and replies are its own ids, every demand is met, and what it cannot do is one line."""

import re

import pytest

from compressor.chat import ChatTemplateError, chat_format
from compressor.placeholders import MEMORY_TOKEN
from epo.data.dialogue import Turn
from epo.preferences.local_chat import LocalChat
from epo.prompts.marks import PLACEHOLDERS
from launch.processes.ends import explain
from launch.training import check_words

END = {
    "Llama-3-like": "<|eot|>",
    "Gemma-like": "<end_of_turn>",
    "Phi-3-like": "<|end|>",
    "Mistral-like": "</s>",
    "ChatML with a default system prompt": "<|im_end|>",
    "Qwen-3-like, empty thought": "<|im_end|>",
    "roles in plain words": "</s>",
    "closes no turn, has eos": "</s>",
}
REPLIES = ("(sad) I am sorry.", "I met Mira.", "7 of them", "\u00c4h", "(happy) Two: one, and another\nline.")


def message(role, content):
    return {"role": role, "content": content}


TALK = [message("user", "I met Mira."), message("assistant", "How was it?"), message("user", "Long.")]


def written(words, messages, is_prompt=False):
    """What the template makes of messages, by the tokenizer's own method, today's date apart."""
    template = chat_format(words).template
    return words.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=is_prompt, return_dict=False
    )


@pytest.mark.parametrize("reply", REPLIES)
def test_prompt_and_reply_are_the_templates_own_ids(name, words, reply):
    """The whole as the template writes it, cut after the first token that ends the last turn."""
    chat = chat_format(words)
    prompt, answer = chat.encode_prompt(TALK), chat.encode_reply(reply)
    whole = written(words, [*TALK, message("assistant", reply)])
    if name == "closes no turn, has eos":
        whole = [*whole, words.eos_token_id]
    assert prompt + answer == whole[: len(prompt) + len(answer)]
    assert answer[-1] == chat.turning.end_id and answer.count(answer[-1]) == 1
    assert chat.decode(answer).strip() == reply


def test_the_generation_prompt_is_the_templates_own_unless_it_differs_from_what_replies_follow(name, words):
    ids, own = chat_format(words).encode_prompt(TALK), written(words, TALK, is_prompt=True)
    if name == "Qwen-3-like, empty thought":
        assert words.decode(ids[len(own) :]) == "<think>\n\n</think>\n\n" and ids[: len(own)] == own
    elif name == "R1-like, opened thought":
        assert words.decode(own[len(ids) :]) == "<think>\n" and own[: len(ids)] == ids
    elif name == "roles in plain words":
        assert words.decode(own).endswith("Assistant: ") and words.decode(ids).endswith("Assistant:")
    else:
        assert ids == own


def test_a_turn_ends_as_the_template_ends_it(name, words):
    chat = chat_format(words)
    assert words.convert_ids_to_tokens(chat.turning.end_id) == END.get(name, "<|end|>")
    wanted = {chat.turning.end_id} | ({words.eos_token_id} - {None})
    assert set(chat.stop_ids) == wanted and chat.stop_ids[0] == chat.turning.end_id


def test_the_beginning_of_sequence_stands_as_often_as_the_template_writes_it(name, words):
    chat = chat_format(words)
    if words.bos_token_id is None:
        return
    assert chat.encode_prompt(TALK).count(words.bos_token_id) == 1
    assert words.bos_token_id not in chat.encode_reply("I met Mira.")


def test_a_llama_like_tokenizer_would_write_it_twice(rows):
    words = rows["Llama-3-like"]()
    text = words.apply_chat_template(TALK, tokenize=False)
    assert words.encode(text).count(words.bos_token_id) == 2


def test_a_history_costs_what_it_adds_to_the_prompt_and_no_bos_a_turn(rows):
    from compressor.data import CompressionCollator, History
    from compressor.fitting import FixedParts
    from compressor.utterance import Utterance
    from epo.prompts.marks import add_placeholders

    words = rows["Llama-3-like"]()
    add_placeholders(words)
    turns = (Utterance("user", "I met Mira."), Utterance("assistant", "How was it?"))
    written = "".join(f"<|head|>{turn.speaker}<|/head|>\n\n{turn.text}<|eot|>" for turn in turns)
    collator = CompressionCollator(rows["trims"](), words, 1000, num_memory_tokens=3)
    tokens = len(words.encode(written, add_special_tokens=False))
    assert collator.num_history_tokens(History(turns, FixedParts(after="And now?"), "Fine.")) == (tokens, 6)


def test_generation_stops_at_the_end_of_the_turn(words, scripted):
    """A model that answers, ends its turn and babbles on is heard up to the end, and asked no further."""
    chat = chat_format(words)
    babble = words.encode("I met Mira.", add_special_tokens=False)
    said = chat.encode_reply("(sad) I am sorry.")
    llm = scripted(len(words), [*said, *babble])
    assert LocalChat("tiny", llm, words, temperature=0, max_tokens=30).ask("Hello", 0) == "(sad) I am sorry."
    assert llm.lm_head.step == len(said)
    assert chat.decode([*said, *babble]).strip() == "(sad) I am sorry."


def test_generation_stops_at_eos_too(rows, scripted):
    words = rows["Gemma-like"]()
    said = words.encode("I am sorry.", add_special_tokens=False)
    llm = scripted(len(words), [*said, words.eos_token_id, *said])
    assert LocalChat("tiny", llm, words, temperature=0, max_tokens=30).ask("Hello", 0) == "I am sorry."
    assert llm.lm_head.step == len(said) + 1


def test_words_to_begin_with_are_the_beginning_of_the_reply(words):
    chat = chat_format(words)
    start, whole = chat.encode_start("(sad)"), chat.encode_reply("(sad) I am sorry.")
    assert whole[: len(start)] == start and chat.encode_start("") == []


def test_a_template_that_wants_alternation_gets_it(rows):
    """Turns of one speaker are joined by a line break, the system prompt goes before the first user turn's words."""
    words = rows["Gemma-like"]()
    chat = chat_format(words)
    assert (chat.demands.has_system, chat.demands.is_alternating, chat.demands.begins_with_user) == (False, True, True)
    twice = [message("system", "Be kind."), message("user", "One."), message("user", "Two."), *TALK[1:]]
    assert words.decode(chat.encode_prompt(twice)) == (
        "<bos><start_of_turn>user\nBe kind.\n\nOne.\nTwo.<end_of_turn>\n"
        "<start_of_turn>model\nHow was it?<end_of_turn>\n"
        "<start_of_turn>user\nLong.<end_of_turn>\n<start_of_turn>model\n"
    )
    assert twice[1]["content"] == "One."  # the caller's messages stay as they are


def test_an_assistant_who_speaks_first_answers_a_user_who_said_nothing(rows):
    words = rows["Gemma-like"]()
    text = words.decode(chat_format(words).encode_prompt(TALK[1:]))
    assert text.startswith("<bos><start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\nHow was it?<end_of_turn>\n")
    told = words.decode(chat_format(words).encode_prompt([message("system", "Be kind."), *TALK[1:]]))
    assert told.startswith("<bos><start_of_turn>user\nBe kind.<end_of_turn>\n<start_of_turn>model\nHow was it?")


def test_what_a_template_does_not_demand_is_left_as_it_is(rows):
    words = rows["trims"]()
    messages = [message("system", "Be kind."), *TALK[1:], message("user", "Two.")]
    assert words.decode(chat_format(words).encode_prompt(messages)) == (
        "<|system|>Be kind.<|end|><|assistant|>How was it?<|end|><|user|>Long.<|end|><|user|>Two.<|end|><|assistant|>"
    )


@pytest.mark.parametrize(
    ("rule", "demand"),
    [
        ("{% if loop.previtem is not defined or loop.previtem.role != m.role %}", "is_alternating"),
        ("{% if m.role != 'assistant' or loop.index0 > 0 %}", "begins_with_user"),
        ("{% if m.role != 'system' %}", "has_system"),
    ],
)
def test_what_a_template_leaves_out_without_a_word_is_a_demand_too(rows, rule, demand):
    words = rows["trims"]()
    words.chat_template = words.chat_template.replace("{{- '<|' + m", rule + "{{- '<|' + m").replace(
        "<|end|>' }}", "<|end|>' }}{% endif %}"
    )
    demands = chat_format(words).demands
    assert [name for name in ("is_alternating", "begins_with_user") if getattr(demands, name)] + (
        [] if demands.has_system else ["has_system"]
    ) == [demand]
    text = words.decode(
        chat_format(words).encode_prompt([message("system", "Be kind."), *TALK[1:], message("user", "B.")])
    )
    assert all(said in text for said in ("Be kind.", "How was it?", "Long.", "B."))


def test_placeholders_survive_every_template(words):
    """Trimmed or not, folded or joined: as many as were put in."""
    marks = MEMORY_TOKEN * 6 + "(<|emotion|>) " + "<|audio|>" * 3 + "<|video|>" * 2
    messages = [message("system", "Be kind."), message("user", " " + marks), message("user", marks + " ")]
    ids = chat_format(words).encode_prompt(messages, PLACEHOLDERS)
    found = [
        ids.count(words.convert_tokens_to_ids(token))
        for token in ("<|memory|>", "<|emotion|>", "<|audio|>", "<|video|>")
    ]
    assert found == [12, 2, 6, 4]


def test_a_template_that_loses_placeholders_is_refused(rows):
    words = rows["trims"]()
    words.chat_template = words.chat_template.replace("| trim", "| truncate(40, True, '')")
    chat = chat_format(words)
    with pytest.raises(ChatTemplateError, match=r"its chat template wrote 4 of 9 <\|memory\|> tokens"):
        chat.encode_prompt([message("user", MEMORY_TOKEN * 9)])


def test_what_cannot_be_done_is_one_line_that_names_the_tokenizer(refused, rows):
    words = rows[refused]()
    words.name_or_path = refused
    with pytest.raises(ChatTemplateError, match=f"^tokenizer '{refused}'") as caught:
        check_words(words, [])
    assert explain(caught.value) == str(caught.value) and "\n" not in str(caught.value)


def test_a_template_that_refuses_a_dialogue_says_why_in_one_line(rows):
    words = rows["trims"]()
    words.name_or_path = "strict"
    words.chat_template = (
        "{% if messages | length > 2 %}{{ raise_exception('too long\nfor me') }}{% endif %}" + words.chat_template
    )
    with pytest.raises(
        ChatTemplateError, match=r"^tokenizer 'strict': .* messages of user, assistant, user \(too long\)"
    ):
        chat_format(words).encode_prompt(TALK)


def test_a_template_changed_or_a_vocabulary_grown_is_tried_anew(rows):
    words = rows["trims"]()
    assert chat_format(words) is chat_format(words)
    before = chat_format(words)
    words.add_tokens(["<|stop|>"], special_tokens=True)
    words.chat_template = words.chat_template.replace("<|end|>", "<|stop|>")
    assert chat_format(words).turning.end == "<|stop|>" and before.turning.end == "<|end|>"


def test_a_dated_template_writes_the_same_every_day(rows):
    words = rows["writes today's date"]()
    text = words.decode(chat_format(words).encode_prompt(TALK))
    assert text.startswith("<|system|>It is Thursday, 01 January 2026<|end|>")


def test_a_reply_that_the_tokenizer_would_join_to_the_prompt_is_encoded_by_itself(rows):
    """Without a blank or a token between, "Assistant:" and "(sad)" would share the token ":("."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet | {":(": 256}, [(":", "(")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    words.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% if m.role != 'user' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    chat = chat_format(words)
    prompt, reply = chat.encode_prompt(TALK), chat.encode_reply("(sad) No.")
    assert words.decode(prompt).endswith("Long.assistant:") and words.decode(reply) == "(sad) No.</s>"
    assert 256 in written(words, [*TALK, message("assistant", "(sad) No.")]) and 256 not in prompt + reply


def test_the_same_system_prompt_is_read_everywhere(rows, make_llm):
    """A default system prompt stands once, whether the prompt is of memories, of text or of one turn to rebuild."""
    from compressor.data import CompressionCollator
    from epo.data.replies import Reply
    from epo.prompts.histories import history_of
    from epo.prompts.layout import Layout
    from epo.prompts.marks import add_placeholders
    from epo.prompts.text_prompts import TextPrompts

    words = rows["ChatML with a default system prompt"]()
    add_placeholders(words)
    example = Reply("d", 2, (Turn("user", "I met Mira."),), Turn("user", "And?"), "Fine.", None)
    for given, wanted in (("", "You help."), ("Be kind.", "Be kind.")):
        layout = Layout(system_prompt=given)
        history = history_of(example, layout, names_emotion=False)
        batch = CompressionCollator(rows["trims"](), words, 1000, 2)([{"history": history, "target_turn": 0}])
        texts = [words.decode(batch[f"{kind}_ids"][0]) for kind in ("reply", "text", "turn")]
        texts.append(words.decode(TextPrompts(words, layout).encode_prompt(example, names_emotion=False)))
        assert all(re.findall(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", text) == [wanted] for text in texts)

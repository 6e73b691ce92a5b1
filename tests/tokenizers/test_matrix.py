"""The table of docs/tokenizers.md is what comes out of the tokenizers here."""

import os
from pathlib import Path

import pytest

from compressor.chat import ChatTemplateError, chat_format
from epo.preferences.local_chat import LocalChat
from epo.prompts.marks import add_placeholders

PAGE = Path(__file__).parents[2] / "docs" / "tokenizers.md"
BEGIN, END = "<!-- matrix:begin -->\n", "<!-- matrix:end -->\n"
TALK = [
    {"role": "user", "content": "I met Mira."},
    {"role": "assistant", "content": "How was it?"},
    {"role": "user", "content": "Long."},
]
REPLIES = ("(sad) I am sorry.", "I met Mira.", "7 of them")
HEAD = (
    "tokenizer", "one speaker twice", "assistant first", "system prompt", "a turn ends with", "eos", "padding token",
    "BOS in a prompt", "prompt + reply = template's ids", "generation stops",
)  # fmt: skip


def describe(name, words, scripted):
    """One row: what the template demands and how prompt, reply and generation come out."""
    chat = chat_format(words)
    demands, prompt = chat.demands, chat.encode_prompt(TALK)
    system = "a message" if demands.has_system else "in the first user turn"
    if "system" in words.decode(chat.encode_prompt(TALK[:1])):
        system += "; its own if none"
    padding = "none" if words.pad_token is None else f"id {words.pad_token_id}"
    if words.pad_token is not None and words.pad_token == words.eos_token:
        padding = "eos"
    return [
        name,
        "joined" if demands.is_alternating else "kept",
        "after an empty user turn" if demands.begins_with_user else "kept",
        system,
        f"`{words.convert_ids_to_tokens(chat.turning.end_id)}`",
        "none" if words.eos_token is None else f"`{words.eos_token}`",
        padding,
        "" if words.bos_token_id is None else str(prompt.count(words.bos_token_id)),
        yes(all(is_whole(words, chat, prompt, reply) for reply in REPLIES)),
        yes(stops(words, chat, scripted)),
    ]


def yes(answer):
    return "yes" if answer else "NO"


def is_whole(words, chat, prompt, reply):
    """Whether prompt and reply are the template's own rendering up to the end of the turn."""
    messages = [*TALK, {"role": "assistant", "content": reply}]
    whole = words.apply_chat_template(messages, chat_template=chat.template, return_dict=False)
    ids = prompt + chat.encode_reply(reply)
    return ids == whole[: len(ids)] or (not chat.turning.end and ids == [*whole, words.eos_token_id])


def stops(words, chat, scripted):
    """Whether a model that babbles on after its turn is asked for nothing beyond it."""
    said = chat.encode_reply(REPLIES[0])
    llm = scripted(len(words), said + said)
    return LocalChat("tiny", llm, words, temperature=0, max_tokens=2 * len(said)).ask("Hello", 0) == REPLIES[0]


@pytest.fixture
def table(rows, scripted):
    """Both tables as Markdown."""
    works, refused = [], []
    for name, make in rows.items():
        words = make()
        words.name_or_path = name
        add_placeholders(words)
        try:
            works.append(describe(name, words, scripted))
        except ChatTemplateError as error:
            refused.append([name, str(error).removeprefix(f"tokenizer {name!r}").lstrip(": ")])
    assert works and refused and not any("NO" in row for row in works)
    return "\n".join([*markdown(HEAD, works), "", *markdown(("refused", "message"), refused)]) + "\n"


def markdown(head, rows):
    lines = [list(head), ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def test_the_page_says_what_comes_out(table):
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + BEGIN + "\n" + table + "\n" + END + after
    if os.environ.get("EPO_WRITE_DOCS") == "1":
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "run this test with EPO_WRITE_DOCS=1 and read what changed"

"""How a language model is talked to: its chat template, what the template asks of a dialogue, and how a turn ends.

All of it is found by trying the template, so that any tokenizer with one works, and every prompt and reply of every
stage is written here. Nothing else calls `apply_chat_template`.
"""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from compressor.placeholders import MEMORY_TOKEN
from compressor.text import CompressorDataError

Message = dict[str, str]
"""`role`, one of "system", "user" and "assistant", and `content`."""


class ChatTemplateError(CompressorDataError):
    """A chat template that is missing, or that cannot write what it is asked to; names the tokenizer and the reason."""


# Words that no template contains, to be looked for in what it writes.
_ASKED, _ASKED_MORE, _ORDERED = "Quince or medlar?", "Two walnuts.", "Name fruit."
_ANSWERS = ("Medlar, please.", "(sad) Yes, 7 of them.", "7 quinces", "\u00c4h, nein.")

# A template that writes today's date would make another prompt of the same dialogue every day, so that training,
# its resumption and evaluation would disagree: it is given Thursday, 1 January 2026 (our choice).
_DATE = {
    "%Y": "2026", "%y": "26", "%m": "01", "%d": "01", "%B": "January", "%b": "Jan", "%A": "Thursday", "%a": "Thu",
    "%j": "001", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM",
}  # fmt: skip
_FIXED_CLOCK = "{{%- macro strftime_now(format) -%}}{{{{ format{} }}}}{{%- endmacro -%}}".format(
    "".join(f" | replace('{code}', '{text}')" for code, text in _DATE.items())
)


@dataclass(frozen=True)
class Demands:
    """What a template asks of a dialogue; found by trying.

    Attributes:
        has_system: it writes a system message.
        is_alternating: it refuses, or leaves out, two turns of one speaker in a row.
        begins_with_user: it refuses, or leaves out, an assistant's turn before the first user's.
    """

    has_system: bool = True
    is_alternating: bool = False
    begins_with_user: bool = False

    def arrange(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages as the template takes them; where it takes them as they are, unchanged.

        Our choices: a system message goes before the first user turn's words, a blank line between (as a user turn of
        its own where the assistant speaks first); an assistant who speaks first answers a user who said nothing; turns
        of one speaker in a row are joined, a line break between.
        """
        arranged = [dict(message) for message in messages]
        if arranged and arranged[0]["role"] == "system" and not self.has_system:
            system = arranged.pop(0)["content"]
            if arranged and arranged[0]["role"] == "user":
                arranged[0]["content"] = f"{system}\n\n{arranged[0]['content']}"
            else:
                arranged.insert(0, {"role": "user", "content": system})
        first = 1 if arranged and arranged[0]["role"] == "system" else 0
        if self.begins_with_user and len(arranged) > first and arranged[first]["role"] == "assistant":
            arranged.insert(first, {"role": "user", "content": ""})
        return _join_speakers(arranged) if self.is_alternating else arranged


@dataclass(frozen=True)
class Turning:
    """Where a prompt ends and the reply begins, and what ends the reply.

    Attributes:
        removed: what the generation prompt ends with and no finished reply follows, such as an opened thought.
        added: what the template writes before every reply, such as an empty thought; it is part of the prompt.
        said: blanks that the tokenizer joins to the first word, so that they are part of the reply.
        end: the text after a reply up to and including its first special token; empty where there is none.
        tail: all that the template writes after a last reply.
        end_id: the token that ends a reply: the last of `end`, or else eos.
    """

    removed: str
    added: str
    said: str
    end: str
    tail: str
    end_id: int


@dataclass(frozen=True)
class ChatFormat:
    """Writes prompts and replies the way one language model reads and says them.

    Attributes:
        tokenizer: the language model's.
        template: its chat template.
        demands: what that asks of a dialogue.
        turning: where a reply begins and ends.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str
    demands: Demands
    turning: Turning

    @property
    def stop_ids(self) -> list[int]:
        """Tokens at which generation stops: the end of a turn, and eos where it is another."""
        eos = self.tokenizer.eos_token_id
        return list(dict.fromkeys([self.turning.end_id, *([] if eos is None else [eos])]))

    def encode_prompt(self, messages: Sequence[Message], placeholders: Sequence[str] = (MEMORY_TOKEN,)) -> list[int]:
        """Return the ids of messages, ready for the assistant's next words: what the template writes, once.

        Args:
            messages: of a dialogue that ends with the user.
            placeholders: tokens of which not one may get lost on the way.

        Raises:
            ChatTemplateError: the template refuses the messages, or loses a placeholder.
        """
        text = self._prompt_text(_render(self.tokenizer, self.template, self.demands.arrange(messages), True))
        for token in placeholders:
            wanted = sum(message["content"].count(token) for message in messages)
            if text.count(token) != wanted:
                raise ChatTemplateError(
                    f"{_name(self.tokenizer)}: its chat template wrote {text.count(token)} of {wanted} {token} tokens; "
                    "use a template that leaves the words as they are"
                )
        return _encode(self.tokenizer, text)

    def encode_reply(self, words: str) -> list[int]:
        """Return the ids that follow a prompt when the assistant says words, up to the token that ends its turn.

        They are those of the template's own rendering. Where the tokenizer would join the reply's first token to the
        prompt's last one, the reply is encoded by itself, as the model, too, gets its prompt by itself.
        """
        body = self._body(words)
        ids = self._after_context(body)
        return ids if self.turning.end else [*ids, self.turning.end_id]

    def encode_start(self, words: str) -> list[int]:
        """Return the ids of words that a reply is to begin with, no end after them."""
        return self._after_context(self.turning.said + words) if words else []

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of generated ids up to the first token that ends a turn; what follows is dropped."""
        stops = set(self.stop_ids)
        length = next((i for i, token in enumerate(ids) if token in stops), len(ids))
        text: str = self.tokenizer.decode(list(ids[:length]), skip_special_tokens=True)
        return text

    def require_table(self, num_embeddings: int) -> None:
        """Refuse a tokenizer whose template writes tokens that the language model's embedding does not hold.

        Placeholders may lie beyond it: their rows are never looked up.

        Raises:
            ChatTemplateError: names the first such token.
        """
        beyond = [token for token in (*self._context[1], *self.stop_ids) if token >= num_embeddings]
        if beyond:
            token = self.tokenizer.convert_ids_to_tokens(beyond[0])
            raise ChatTemplateError(
                f"{_name(self.tokenizer)}: its chat template writes {token!r}, id {beyond[0]}, but the language model "
                f"has only {num_embeddings} embeddings; use the tokenizer it was trained with"
            )

    @cached_property
    def _context(self) -> tuple[str, list[int]]:
        """A short prompt and its ids, in whose place any prompt may stand."""
        text = self._prompt_text(_render(self.tokenizer, self.template, _user(_ASKED), True))
        return text, _encode(self.tokenizer, text)

    def _prompt_text(self, rendered: str) -> str:
        if not rendered.endswith(self.turning.removed):
            raise ChatTemplateError(
                f"{_name(self.tokenizer)}: its chat template ends prompts now with {self.turning.removed!r}, now with "
                f"{rendered[-20:]!r}; use a template with one generation prompt"
            )
        return rendered.removesuffix(self.turning.removed) + self.turning.added

    def _body(self, words: str) -> str:
        """Return what the template writes after the prompt for a reply, up to its end."""
        context, _ = self._context
        messages = [*_user(_ASKED), {"role": "assistant", "content": words}]
        whole = _render(self.tokenizer, self.template, messages, False)
        if not whole.startswith(context):
            raise ChatTemplateError(
                f"{_name(self.tokenizer)}: its chat template writes something else before the reply {words[:60]!r} "
                "than before other replies; use a template that treats all alike"
            )
        body, end = whole[len(context) :], self.turning.end
        return body[: body.index(end) + len(end)] if end else body.removesuffix(self.turning.tail)

    def _after_context(self, text: str) -> list[int]:
        context, before = self._context
        ids = _encode(self.tokenizer, context + text)
        return ids[len(before) :] if ids[: len(before)] == before else _encode(self.tokenizer, text)


def chat_format(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """Return how a tokenizer's model is talked to; tried once, and again where template or vocabulary changed.

    Raises:
        ChatTemplateError: there is no chat template, it cannot write a question and an answer, or nothing ends a turn.
    """
    if tokenizer.chat_template is None:
        raise ChatTemplateError(
            f"{_name(tokenizer)} has no chat template; use an instruction-tuned model, or save one "
            "with `tokenizer.chat_template = ...; tokenizer.save_pretrained(...)`"
        )
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise ChatTemplateError(f"{_name(tokenizer)} has no default chat template ({_first_line(error)})") from error
    if "strftime_now" in template:
        template = _FIXED_CLOCK + template
    return _try_template(tokenizer, template, len(tokenizer), tokenizer.eos_token)


@lru_cache(maxsize=8)
def _try_template(
    tokenizer: PreTrainedTokenizerBase, template: str, num_tokens: int, eos_token: str | None
) -> ChatFormat:
    """Try a template; the number of tokens and eos are there because both change what is found."""
    user, assistant = _user(_ASKED), [{"role": "assistant", "content": _ANSWERS[0]}]
    more, system = _user(_ASKED_MORE), [{"role": "system", "content": _ORDERED}]

    def writes(*messages: Message) -> bool:
        return _writes_all(tokenizer, template, list(messages))

    demands = Demands(
        has_system=writes(*system, *user),
        is_alternating=not (writes(*user, *more) and writes(*user, *assistant, *assistant, *more)),
        begins_with_user=not writes(*assistant, *user),
    )
    return ChatFormat(tokenizer, template, demands, _find_turning(tokenizer, template))


def _find_turning(tokenizer: PreTrainedTokenizerBase, template: str) -> Turning:
    """Compare the generation prompt with the same question answered, for a few answers."""
    prompt = _render(tokenizer, template, _user(_ASKED), True)
    whole = [
        _render(tokenizer, template, [*_user(_ASKED), {"role": "assistant", "content": answer}], False)
        for answer in _ANSWERS
    ]
    common = len(os.path.commonprefix([prompt, *whole]))
    places = [text.find(answer, common) for text, answer in zip(whole, _ANSWERS, strict=True)]
    leads = {text[common:place] for text, place in zip(whole, places, strict=True)}
    tails = {text[place + len(answer) :] for text, place, answer in zip(whole, places, _ANSWERS, strict=True)}
    if min(places) < 0 or len(leads) > 1 or len(tails) > 1:
        raise ChatTemplateError(
            f"{_name(tokenizer)}: its chat template does not write an answer as it was given, or not every answer in "
            "the same way; use a template that leaves the words as they are"
        )
    (lead,), (tail,) = leads, tails
    end, end_id = _find_end(tokenizer, tail)
    asked = prompt[:common] + lead
    num_said = _num_said(
        tokenizer, asked, [text[:place] + answer for text, place, answer in zip(whole, places, _ANSWERS, strict=True)]
    )
    begin = asked[: len(asked) - num_said]
    kept = min(common, len(begin))
    return Turning(prompt[kept:], begin[kept:], asked[len(begin) :], end, tail, end_id)


def _num_said(tokenizer: PreTrainedTokenizerBase, asked: str, answered: Sequence[str]) -> int:
    """Return how many blanks at a prompt's end belong to the reply, because the tokenizer joins them to its words.

    As few as let a prompt's ids be the beginning of the ids of prompt and reply together; none where no number does.
    """
    wholes = [_encode(tokenizer, text) for text in answered]
    for num_said in range(len(asked) - len(asked.rstrip()) + 1):
        ids = _encode(tokenizer, asked[: len(asked) - num_said])
        if all(whole[: len(ids)] == ids for whole in wholes):
            return num_said
    return 0


def _find_end(tokenizer: PreTrainedTokenizerBase, tail: str) -> tuple[str, int]:
    """Return what ends a turn and its last token: up to the first special token after a reply, or else eos.

    Raises:
        ChatTemplateError: there is neither.
    """
    added = tokenizer.added_tokens_decoder
    for is_special in (True, False):
        marks = {token.content: index for index, token in added.items() if token.special == is_special}
        found = [(tail.index(mark), -len(mark), mark) for mark in marks if mark.strip() and mark in tail]
        if found:
            place, _, mark = min(found)
            return tail[: place + len(mark)], marks[mark]
    if tokenizer.eos_token_id is None:
        raise ChatTemplateError(
            f"{_name(tokenizer)}: its chat template writes no special token after a reply and it has no eos token, so "
            "a reply would never end; set `tokenizer.eos_token`, or let the template close the assistant's turn"
        )
    return "", tokenizer.eos_token_id


def _writes_all(tokenizer: PreTrainedTokenizerBase, template: str, messages: list[Message]) -> bool:
    """Tell whether a template takes messages and writes the words of all of them."""
    try:
        text = _render(tokenizer, template, messages, False)
    except ChatTemplateError:
        return False
    words = [message["content"] for message in messages]
    return all(text.count(word) >= words.count(word) for word in words)


def _render(tokenizer: Any, template: str, messages: list[Message], is_prompt: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=is_prompt, tokenize=False
        )
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages[:4])
        raise ChatTemplateError(
            f"{_name(tokenizer)}: its chat template refuses messages of {roles}{', ...' if len(messages) > 4 else ''} "
            f"({_first_line(error)}); change the template, or use another model"
        ) from error
    return text


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode what a template wrote, its special tokens included: nothing is added to it."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, verbose=False)
    return ids


def _join_speakers(messages: Sequence[Message]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"] += "\n" + message["content"]
        else:
            joined.append(message)
    return joined


def _user(words: str) -> list[Message]:
    return [{"role": "user", "content": words}]


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"tokenizer {tokenizer.name_or_path!r}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

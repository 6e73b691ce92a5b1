"""Tiny tokenizers that behave as those of well-known models do; templates and vocabularies are our own.

Each row: what is special about it, and how to make it. A name ending in "-like" has the behaviour of that family's
chat template, not its text.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_TEXTS = [
    "user: Quince or medlar? assistant: Medlar, please. system: Name fruit. Two walnuts.",
    "I met Mira at the lake. How was it? Long and windy, we walked for hours. That sounds tiring.",
    "(sad) I am sorry that Otto left. (happy) I am glad you told me about Lena. (angry) Stop it!",
    "7 of them, 12 more, and \u00e4h, nein. User: Assistant: Be kind. It is Thursday, 1 January 2026",
] * 3


def _wrap(tokenizer: Tokenizer, template: str | None, marks: tuple[Any, ...] = (), **named: Any) -> Any:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.add_special_tokens(
        {"extra_special_tokens": [AddedToken(m, special=True) if isinstance(m, str) else m for m in marks]}
    )
    fast.chat_template = template
    return fast


def _byte_level(
    template: str | None, marks: tuple[Any, ...], first: tuple[str, ...] = (), prefix_space: bool = False, **named: Any
) -> Any:
    """Byte-level BPE; tokens of `first` get the lowest ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(first), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return _wrap(tokenizer, template, marks, **named)


def _metaspace(template: str | None, marks: tuple[Any, ...], scheme: str, strips: bool = False, **named: Any) -> Any:
    """Unigram as SentencePiece makes it: a blank is part of the word after it, and one is put before the first."""
    tokenizer = Tokenizer(models.Unigram())
    if strips:
        tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    specials = ["<unk>", *dict.fromkeys(value for value in named.values() if isinstance(value, str))]
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=specials, unk_token="<unk>", show_progress=False,
        initial_alphabet=[*map(chr, range(33, 127)), "\n", "\u00c4"],
    )  # fmt: skip
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return _wrap(tokenizer, template, marks, unk_token="<unk>", **named)


def _turns(body: str, after: str = "", before: str = "") -> str:
    return f"{before}{{%- for m in messages %}}{body}{{%- endfor %}}{after}"


_ALTERNATE = (
    "{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('roles must go user, assistant, user') }}{%- endif %}"
)
_NO_SYSTEM = "{%- if messages[0]['role'] == 'system' %}{{- raise_exception('no system role here') }}{%- endif %}"
_CHATML = "{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
_CHATML_PROMPT = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
_PLAIN = "{{- '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
_PLAIN_PROMPT = "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
_PLAIN_MARKS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_TRIMMED = _PLAIN.replace("m['content']", "m['content'] | trim")


def llama3_like() -> Any:
    """The template writes BOS and so does the tokenizer; no padding token; content is trimmed."""
    body = "{{- '<|head|>' + m['role'] + '<|/head|>\\n\\n' + m['content'] | trim + '<|eot|>' }}"
    after = "{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\\n\\n' }}{%- endif %}"
    fast = _byte_level(
        _turns(body, after, "{{- bos_token }}"),
        ("<|head|>", "<|/head|>", "<|eot|>"), bos_token="<|begin|>", eos_token="<|end_of_text|>",
    )  # fmt: skip
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", fast.bos_token_id)]
    )
    return fast


def gemma_like() -> Any:
    """Strict alternation, no system role, the assistant is called model, a turn ends with its own token."""
    body = (
        "{%- set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{- '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}"
    )
    after = "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
    return _byte_level(
        _turns(_ALTERNATE + body, after, "{{- bos_token }}" + _NO_SYSTEM), ("<start_of_turn>", "<end_of_turn>"),
        first=("<pad>", "<eos>", "<bos>"), pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", padding_side="left",
    )  # fmt: skip


def mistral_like(scheme: str = "first") -> Any:
    """No generation prompt, a blank before the reply, eos after the assistant only, strict alternation."""
    body = (
        "{%- if m['role'] == 'user' %}{{- '[INST] ' + m['content'] + ' [/INST]' }}"
        "{%- else %}{{- ' ' + m['content'] + eos_token }}{%- endif %}"
    )
    template = _turns(_ALTERNATE + body, before="{{- bos_token }}" + _NO_SYSTEM)
    return _metaspace(template, (), scheme, bos_token="<s>", eos_token="</s>")


def phi3_like() -> Any:
    """Its tokens swallow the blanks after them; a turn ends with <|end|>, while eos is another token."""
    marks = tuple(AddedToken(mark, rstrip=True, special=True) for mark in _PLAIN_MARKS)
    body = "{{- '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}"
    after = "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}"
    return _metaspace(_turns(body, after), marks, "first", eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def chatml_default_system() -> Any:
    """A system message of its own where none is given; padding, eos and end of turn are one token."""
    before = "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{%- endif %}"
    return _byte_level(
        _turns(_CHATML, _CHATML_PROMPT, before), ("<|im_start|>",), eos_token="<|im_end|>", pad_token="<|im_end|>"
    )


def thinking() -> Any:
    """An empty thought before the last reply, in tokens that are not special."""
    body = (
        "{%- if m['role'] == 'assistant' and loop.last %}"
        "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m['content'] + '<|im_end|>\\n' }}"
        "{%- else %}" + _CHATML + "{%- endif %}"
    )
    marks = ("<|im_start|>", "<|im_end|>")
    fast = _byte_level(_turns(body, _CHATML_PROMPT), marks, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_tokens(["<think>", "</think>"])
    return fast


def opened_thought() -> Any:
    """The generation prompt opens a thought; past replies are written without theirs."""
    after = "{%- if add_generation_prompt %}{{- '<|assistant|><think>\\n' }}{%- endif %}"
    return _byte_level(_turns(_PLAIN, after), _PLAIN_MARKS, eos_token="<|end|>")


def dated() -> Any:
    """Today's date in the system message."""
    before = "{{- '<|system|>It is ' + strftime_now('%A, %d %B %Y') + '<|end|>' }}"
    return _byte_level(_turns(_PLAIN, _PLAIN_PROMPT, before), _PLAIN_MARKS, eos_token="<|end|>")


def words_for_roles() -> Any:
    """Roles in plain words, a blank at the prompt's end that belongs to the reply's first token; only eos ends it."""
    body = (
        "{{- m['role'] | capitalize + ': ' + m['content'] + ('' if m['role'] != 'assistant' else eos_token) + '\\n' }}"
    )
    after = "{%- if add_generation_prompt %}{{- 'Assistant: ' }}{%- endif %}"
    return _byte_level(_turns(body, after), (), eos_token="</s>")


def only_eos() -> Any:
    """The template closes no turn; the tokenizer has eos."""
    return _byte_level(_turns(_PLAIN.replace("<|end|>", ""), _PLAIN_PROMPT), _PLAIN_MARKS[:3], eos_token="</s>")


def trimming() -> Any:
    """Content is trimmed."""
    return _byte_level(_turns(_TRIMMED, _PLAIN_PROMPT), _PLAIN_MARKS, eos_token="<|end|>")


def metaspace_always() -> Any:
    """A blank is put before every piece between special tokens."""
    return _metaspace(_turns(_PLAIN, _PLAIN_PROMPT), _PLAIN_MARKS, "always", eos_token="</s>")


def prefix_space() -> Any:
    """Byte-level BPE that puts a blank before a text."""
    return _byte_level(_turns(_PLAIN, _PLAIN_PROMPT), _PLAIN_MARKS, prefix_space=True, eos_token="<|end|>")


def stripping() -> Any:
    """Encoding strips the blanks of every piece."""
    return _metaspace(_turns(_PLAIN, _PLAIN_PROMPT), _PLAIN_MARKS, "always", strips=True, eos_token="</s>")


def no_end() -> Any:
    """Nothing ends a turn."""
    return _byte_level(_turns(_PLAIN.replace("<|end|>", ""), _PLAIN_PROMPT), _PLAIN_MARKS[:3])


def no_template() -> Any:
    """A base model's tokenizer."""
    return _byte_level(None, (), eos_token="</s>")


def refusing() -> Any:
    """A template that wants a message no dialogue has."""
    return _byte_level("{{- raise_exception('tools are wanted') }}", (), eos_token="</s>")


def rewording() -> Any:
    """A template that changes the words."""
    return _byte_level(_turns(_PLAIN.replace("m['content']", "m['content'] | upper"), _PLAIN_PROMPT), _PLAIN_MARKS)


ROWS: dict[str, Callable[[], Any]] = {
    "Llama-3-like": llama3_like,
    "Gemma-like": gemma_like,
    "Mistral-like": mistral_like,
    "Phi-3-like": phi3_like,
    "ChatML with a default system prompt": chatml_default_system,
    "Qwen-3-like, empty thought": thinking,
    "R1-like, opened thought": opened_thought,
    "writes today's date": dated,
    "roles in plain words": words_for_roles,
    "closes no turn, has eos": only_eos,
    "trims": trimming,
    "SentencePiece-like, blank before every piece": metaspace_always,
    "byte-level, blank before a text": prefix_space,
    "strips while encoding": stripping,
    "closes no turn, no eos": no_end,
    "no chat template": no_template,
    "refuses every dialogue": refusing,
    "changes the words": rewording,
}
REFUSED = ("closes no turn, no eos", "no chat template", "refuses every dialogue", "changes the words")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `name` every tokenizer that works, and `refused` those that do not."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", [name for name in ROWS if name not in REFUSED])
    if "refused" in metafunc.fixturenames:
        metafunc.parametrize("refused", REFUSED)


@pytest.fixture(scope="session")
def rows() -> dict[str, Callable[[], Any]]:
    """All tokenizers by name."""
    return ROWS


@pytest.fixture
def words(name: str) -> Any:
    """A tokenizer that knows the placeholders."""
    from epo.prompts.marks import add_placeholders

    tokenizer = ROWS[name]()
    tokenizer.name_or_path = name
    add_placeholders(tokenizer)
    return tokenizer


@pytest.fixture
def scripted() -> Callable[[int, list[int]], Any]:
    """Build a model that says the ids it is given, token by token, whatever it reads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    class Script(torch.nn.Module):
        def __init__(self, num_tokens: int, ids: list[int]) -> None:
            super().__init__()
            self.num_tokens, self.ids, self.step = num_tokens, ids, 0

        def forward(self, hidden: Any) -> Any:
            scores = torch.zeros(*hidden.shape[:2], self.num_tokens)
            scores[..., self.ids[self.step]] = 1.0
            self.step += 1
            return scores

    def make(num_tokens: int, ids: list[int]) -> Any:
        config = AutoConfig.for_model(
            "qwen3", vocab_size=num_tokens, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False,
        )  # fmt: skip
        llm = AutoModelForCausalLM.from_config(config)
        llm.lm_head = Script(num_tokens, ids)
        return llm

    return make

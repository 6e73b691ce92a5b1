"""The one gate for text: whatever is, or looks like, a credential becomes `***` before it is shown or kept.

Four things are taken for credentials: what stands before the `@` of an address; the value beside a secret name, as in
`--hub_token X`, `?api_key=X` or `"password": "X"`; tokens in the shape of a known issuer's; and, wherever they appear,
values of environment variables with secret names and those given to `remember`.
"""

import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

MARK = "***"
"""What stands in the place of a credential."""

_SHORTEST_KNOWN = 8  # characters: a shorter value also occurs where it is no secret
_MOST_PASSES = 5  # where one credential is gone another may come to light: two are enough for all but contrived texts

_SECRET_WORD = re.compile(r"(password|passwd|passphrase|secret|credential)s?$|^(auth|authorization|jwt)$")
_SECRET_JOINED = re.compile(r"^(api|access|private|secret)keys?$|^(auth|access)token$")
_SECRET_PAIR = re.compile(r"\b(api|access|private|secret|auth|signing|encryption|account) (keys?|key id)$")
_SECRET_TOKENS = re.compile(r"\b(api|access|auth|hub|hf|bearer|refresh|session) tokens$")
_QUALIFIER = re.compile(r"( (read|write|ro|rw|prod|dev|test|default|value|\d+))+$")  # HF_TOKEN_READ is a token too
# `token` is a credential's word and a language model's: after one of these it is a piece of text.
_TEXT_TOKEN = frozenset(
    "memory audio video image emotion media sound speech vision bos eos eot eom bot boi eoi pad padding unk cls sep "
    "mask special start end stop begin next last first middle previous prompt placeholder decoder prefix suffix "
    "separator control added fallback fake per a an the one each new num text word sub multi single input output label "
    "response reply gold chosen rejected turn user assistant system tool think model language".split()
)

_USER_INFO = re.compile(r"""(?<=://)[^\s/?#'"<>]*@""")
# A password with a `/` in it should be quoted, but may not be: user:pa/ss@host, which is no host:8080/path@v1.
_SLOPPY_USER_INFO = re.compile(r"""(?<=://)[^\s/?#@:'"<>]+:(?!\d{1,5}[/?#])[^\s'"<>]*@""")
_QUOTED_USER_INFO = re.compile(r"""(?<=%3A%2F%2F)(?:(?!%2F|%3F|%23)[^\s/?#&'"<>])*%40""", re.IGNORECASE)
_SHAPES = re.compile(
    r"\b[Bb]earer\s+[\w.~+/-]{8,}=*"
    r"|\bBasic\s+(?=[A-Za-z]*[\d+/=])[A-Za-z0-9+/]{8,}=*"
    r"|\bhf_(?:[A-Za-z0-9]{16,}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{8,})\b"
    r"|\bsk-(?!learn)[\w-]{8,}"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|nvapi-)[\w-]{10,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{12,}\b|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)

_NAME = r"(?P<name>[A-Za-z_][\w.-]{0,80})"
_WORD = r"""(?:["'](?![,:\]}\n]))?(?:(?!%26)[^\s&"'<>\\])+"""  # perhaps with a quote that is not closed
# Not what follows a text in JSON, so that `"note": "password=", "next": "x"` is not cut in two.
_QUOTED = r""""(?![,:\]}\n])[^"'\\\n]*"|'(?![,:\]}\n])[^"'\\\n]*'"""
_VALUE = f"(?:{_QUOTED}|{_WORD})+"
_SCHEME = r"(?:(?:Bearer|Basic|Digest|Token) +)?"


def _named(before: str, after: str, value: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(before + _NAME + after, re.IGNORECASE), re.compile(value, re.IGNORECASE)


# How a name stands in a text, and what is then its value.
_NAMED_VALUES = (
    *(
        _named(
            f"(?P<quote>{q})",
            rf"{q}\s*[:=]\s*",
            rf"""{q}(?:(?!{q})(?:[^\\\n]|\\.))*{q}|{_QUOTED}|\[[^\]\[]*\]|[\w.+-]+""",
        )
        for q in ('"', "'", r"\\\"")
    ),  # "password": "X"
    _named(r"(?<![\w.-])", r"(?P<told> ?: {0,3}| = )", _SCHEME + _VALUE),  # Authorization: Bearer X
    _named(r"(?:(?<![\w.])|(?<=%3F)|(?<=%26))", "(?:=|%3D)", f"(?!=){_VALUE}"),  # ?token=X, --token=X
    _named("(?<![A-Za-z0-9_])--?", r"""(?P<listed>['"], *['"])""", r"""(?!-)(?:[^'"\\]|\\.)+"""),  # ['--token', 'X']
    _named("(?<![A-Za-z0-9_])--?", """ +""", f"(?!-){_VALUE}"),  # --token X
)
_ANY_NAME = re.compile("token|key|passw|passphrase|secret|credential|auth|jwt", re.IGNORECASE)  # in most lines is none
_NOT_SET = frozenset(("", "none", "null", "true", "false", MARK))

_remembered: set[str] = set()


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Tell whether a flag, key or variable of this name holds a credential, judged by the words of the name.

    `hub_token`, `AWS_SECRET_ACCESS_KEY` and `X-Api-Key` do; `num_memory_tokens`, `eos_token`, `tokenizer` and
    `llm_key_variable`, which names a variable, do not.
    """
    words = " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)).lower()
    words = _QUALIFIER.sub("", words)
    before, last = ["", *words.split(" ")][-2:]
    if _SECRET_WORD.search(last) or _SECRET_JOINED.search(last):
        return True
    if last == "token":
        return before not in _TEXT_TOKEN
    return bool(_SECRET_PAIR.search(words) or _SECRET_TOKENS.search(words))


def remember(values: Iterable[str]) -> None:
    """Take these values for credentials from now on, in every text; those under eight characters are left alone."""
    _remembered.update(values)


def secret_values(mapping: Mapping[str, Any]) -> Iterator[str]:
    """Yield the credentials among the values: every text under a secret name, and the passwords in addresses."""
    for name, value in mapping.items():
        if not isinstance(value, str):
            continue
        if is_secret_name(name) and not _is_unset(name, value):
            yield value
        if "://" in value:
            for user_info in (*_USER_INFO.findall(value), *_SLOPPY_USER_INFO.findall(value)):
                yield user_info[:-1].partition(":")[2]


def flag_values(argv: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line with their values; a flag without one has an empty text."""
    found = {}
    for argument, following in zip(argv, [*argv[1:], ""], strict=False):
        if argument.startswith("-"):
            name, has_value, value = argument.lstrip("-").partition("=")
            found[name] = value if has_value else "" if following.startswith("--") else following
    return found


def redact(text: str) -> str:
    """Return a text with `***` in the place of every credential. Doing so again changes nothing more."""
    for _ in range(_MOST_PASSES):
        clean = _redact_once(text)
        if clean == text:
            break
        text = clean
    return text


def redact_command(argv: Iterable[Any]) -> list[str]:
    """Return a command line with `***` for the values of secret flags, and every other word through `redact`."""
    words = []
    is_value = False
    for argument in map(str, argv):
        words.append(MARK if is_value and not argument.startswith("--") else redact(argument))
        is_value = argument.startswith("-") and "=" not in argument and is_secret_name(argument.lstrip("-"))
    return words


def redact_mapping(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a mapping with `***` for what stands under secret names, however deep, and all other text redacted.

    Lists of words are taken for command lines. What is not set (None, empty, True or False) stays as it is.
    """
    return {_clean_key(key): _clean(str(key), value, is_secret=False) for key, value in mapping.items()}


def _redact_once(text: str) -> str:
    known = _known_pattern(frozenset((*_remembered, *secret_values(os.environ))))
    if known is not None:
        text = known.sub(MARK, text)
    text = _SHAPES.sub(MARK, text)
    if "://" in text:
        text = _SLOPPY_USER_INFO.sub(f"{MARK}@", _USER_INFO.sub(f"{MARK}@", text))
    if "%" in text:
        text = _QUOTED_USER_INFO.sub(f"{MARK}%40", text)
    if _ANY_NAME.search(text):
        for head, value in _NAMED_VALUES:
            text = _hide_named(text, head, value)
    return text


def _clean_key(key: Any) -> Any:
    return redact(key) if isinstance(key, str) and not key.isidentifier() else key


def _clean(name: str, value: Any, is_secret: bool) -> Any:
    is_secret = is_secret or is_secret_name(name)
    if isinstance(value, Mapping):
        return {_clean_key(key): _clean(str(key), item, is_secret) for key, item in value.items()}
    if isinstance(value, list | tuple):
        is_command = not is_secret and all(isinstance(item, str) for item in value)
        items = redact_command(value) if is_command else [_clean(name, item, is_secret) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool) or _is_unset(name, value):
        return value
    if is_secret:
        return MARK
    if isinstance(value, Path):
        return type(value)(redact(str(value)))
    return redact(value) if isinstance(value, str) else value


def _is_unset(name: str, value: Any) -> bool:
    """Tell whether a value stands for none: empty, or `<HUB_TOKEN>`, as transformers writes for every `hub_token`."""
    return value in ("", name.upper(), f"<{name.upper()}>")


@functools.lru_cache(maxsize=8)
def _known_pattern(values: frozenset[str]) -> re.Pattern[str] | None:
    """Return what finds these values, as they are, quoted as in an address, and escaped as in JSON."""
    forms = set()
    for value in (value.strip() for value in values):
        forms |= {value, quote(value, safe=""), unquote(value), json.dumps(value)[1:-1]}
    kept = sorted((form for form in forms if len(form) >= _SHORTEST_KNOWN), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, kept))) if kept else None


def _hide_named(text: str, head: re.Pattern[str], value: re.Pattern[str]) -> str:
    """Put `***` for the values that follow secret names."""
    pieces, end = [], 0
    for name in head.finditer(text):
        if name.start() < end or not is_secret_name(name["name"]):
            continue
        found = value.match(text, name.end())
        if found is None:
            continue
        hidden = found[0] if "quote" in name.groupdict() else found[0].rstrip(",;.)]}")  # a sentence may go on
        if _stays(name, hidden):
            continue
        quotes = name.groupdict().get("quote", "")  # so that JSON stays JSON
        pieces += [text[end : name.end()], quotes, MARK, quotes]
        end = name.end() + len(hidden)
    return "".join([*pieces, text[end:]])


def _stays(name: re.Match[str], value: str) -> bool:
    """Tell whether what follows a secret name is no credential: not set, a placeholder, or the rest of a sentence."""
    groups, plain = name.groupdict(), value.strip("\\\"'")
    if plain.lower() in _NOT_SET or _is_unset(name["name"], plain):
        return True
    if "told" in groups:  # "no token: set HF_TOKEN"
        return name["name"].lower() in ("token", "auth", "secret", "secrets", "credential", "credentials")
    is_flag = name[0].startswith("-") and name[0].endswith(" ")
    return is_flag and len(plain) < 6  # "--hub_token or HF_TOKEN"

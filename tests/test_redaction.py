"""The gate for text: what is taken for a credential, what is not, and that nothing else is touched."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments
from trl import DPOConfig

from launch import compressor, data, epo, evaluate, extractor, preferences, sft
from epo import redaction
from epo.preferences.source import SOURCES
from epo.redaction import is_secret_name, redact, redact_command, redact_mapping


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(redaction, "_remembered", set())


def _keys():
    """Every key that a recipe of any stage may have."""
    modules = (compressor, data, epo, evaluate, extractor, preferences, sft)
    recipes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    recipes = {value for value in recipes if dataclasses.is_dataclass(value)} | {DPOConfig, TrainingArguments}
    recipes |= {source.settings for source in SOURCES.all().values()}
    assert {"PreferencesRecipe", "SftRecipe", "DPOConfig"} <= {recipe.__name__ for recipe in recipes}
    return {field.name for recipe in recipes for field in dataclasses.fields(recipe)}


def test_the_secret_keys_of_all_recipes():
    assert {key for key in _keys() if is_secret_name(key)} == {"hub_token"}


@pytest.mark.parametrize(
    "name",
    "token hf_token HF_TOKEN HF_TOKEN_READ hub-token push_to_hub_token use_auth_token accessToken GITHUB_TOKEN "
    "MLFLOW_TRACKING_TOKEN MLFLOW_TRACKING_PASSWORD PGPASSWORD passwd passphrase OPENAI_API_KEY X-Api-Key apikey "
    "apiKey AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SESSION_TOKEN client_secret private_key ssh.privateKey "
    "credentials WANDB_API_KEY_2 Authorization basic_auth SLURM_JWT AZURE_STORAGE_ACCOUNT_KEY api_keys "
    "hub_tokens".split(),
)
def test_secret_names(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    "num_memory_tokens max_prompt_tokens tokenizer llm_max_tokens bos_token_id memory_token eos_token max_new_tokens "
    "tokens TOKENIZERS_PARALLELISM mean_token_accuracy token_f1 seconds_per_token additional_special_token pad_token "
    "audio_token image_token_id emotion_token num_token next_token llm_key_variable key keys author authors "
    "SSH_AUTH_SOCK XAUTHORITY AWS_SHARED_CREDENTIALS_FILE HF_TOKEN_PATH password_file secretary keyboard PWD".split(),
)
def test_names_that_are_not_secret(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at http://user:hunter2@h:80/x?a=1 now", "at http://***@h:80/x?a=1 now"),
        ("https://tok@host/a", "https://***@host/a"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://***@h/db"),
        ("http://u:p%40ss@h, http://u:p@ss@h", "http://***@h, http://***@h"),
        ("http://u:pa/ss?x@h/y", "http://***@h/y"),
        ("to=http%3A%2F%2Fu%3Ap%40h%2Fx%3Ftoken%3Dabc%26n%3D1", "to=http%3A%2F%2F***%40h%2Fx%3Ftoken%3D***%26n%3D1"),
        ("url: /v1?token=abc&api_key=d-e&n=1 (Caused by x)", "url: /v1?token=***&api_key=***&n=1 (Caused by x)"),
        ("f(token='a b', n=1)", "f(token=***, n=1)"),
        ("HF_TOKEN=abc python x.py", "HF_TOKEN=*** python x.py"),
        ("password = a%b; host=x", "password = ***; host=x"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("Bearer abcdefgh-12 or Basic dXNlcjpwdw==", "*** or ***"),
        ("    hub_token: 'abc\n", "    hub_token: ***\n"),
        ("{'hub_token': 'it\\'s', 'n': 5}", "{'hub_token': '***', 'n': 5}"),
        ('{"api_key": 12345, "n": 5}', '{"api_key": "***", "n": 5}'),
        ('"{\\"api_key\\": \\"abc\\", \\"n\\": 1}"', '"{\\"api_key\\": \\"***\\", \\"n\\": 1}"'),
        ("$ x.py --hub_token abcdef --beta 1", "$ x.py --hub_token *** --beta 1"),
        ("['x.py', '--password', 'a b', '--n', '1']", "['x.py', '--password', '***', '--n', '1']"),
        ("hf_abcdefghijklmnopqr, sk-proj-a1B2c3", "***, ***"),
        ("ghp_abcdefghij0123456789 AKIAIOSFODNN7EXAMPLE", "*** ***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nand", "***\nand"),
    ],
)
def test_credentials_in_texts(text, clean):
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "http://h:8080/x@v1 git+https://github.com/x/y@v1 hf://datasets/u/r@main/f sqlite:////a@b/c.db",
        "{'loss': 0.5, 'mean_token_accuracy': 0.5, 'num_tokens': 1000, 'pad_token': '<pad>', 'hub_token': None}",
        "num_memory_tokens=4 eos_token='</s>' tokens: 12, tokens/s: 3",
        "put a valid key into the variable OPENAI_API_KEY; no token: use --hub_token or HF_TOKEN",
        "usage: x.py [--hub_token HUB_TOKEN] [--max_new_tokens MAX_NEW_TOKENS]",
        "hub_token: <HUB_TOKEN>",
        "hf_hub_download hf_deepspeed_config sk-learn risk-averse-long-term-plans disk-usage Basic preprocessing",
        "the text holds the special token: '<memory>'; mail me@example.org",
        "runs/epo/checkpoint-200: loss 0.69",
    ],
)
def test_what_is_no_credential_stays(text):
    assert redact(text) == text


def test_values_of_secret_variables_and_remembered_ones_are_found_anywhere(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", 'correct "horse"/ü')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2secret@h")
    monkeypatch.setenv("MY_TOKEN", "short")
    monkeypatch.setenv("TOKENIZER", "not-a-secret")
    redaction.remember(["remembered value"])
    said = 'with correct "horse"/ü, hunter2secret, short, not-a-secret'
    assert redact(said) == "with ***, ***, short, not-a-secret"
    assert redact("correct%20%22horse%22%2F%C3%BC") == "***"
    assert redact(json.dumps({"x": 'a correct "horse"/ü'})) == '{"x": "a ***"}'
    assert redact("xremembered valuex") == "x***x"


def test_command_lines():
    argv = ["x.py", "--hub_token", "X", "--hub-token=X", "--password", "-p", "--api_key", "--beta", "0.1", "token=X"]
    clean = ["x.py", "--hub_token", "***", "--hub-token=***", "--password", "***", "--api_key", "--beta", "0.1"]
    assert redact_command(argv) == [*clean, "token=***"]
    assert redact_command(redact_command(argv)) == [*clean, "token=***"]
    assert redact_command(["--llm_max_tokens", "256", "http://u:p@h"]) == ["--llm_max_tokens", "256", "http://***@h"]


def test_mappings():
    recipe = {
        "hub_token": "X",
        "eos_token": "</s>",
        "password": 1234,
        "api_key": None,
        "use_auth_token": True,
        "token": "",
        "uri": Path("http://u:p@h"),
        "nested": [{"secret": {"a": "X", "n": 5, "more": ["X"]}}, 0.5],
        "args": ("--hub_token", "X", "--beta", "0.3"),
        "http://u:p@h": 1,
    }
    assert redact_mapping(recipe) == {
        "hub_token": "***",
        "eos_token": "</s>",
        "password": "***",
        "api_key": None,
        "use_auth_token": True,
        "token": "",
        "uri": Path("http:/u:p@h"),  # a path has no `//`, so this is no address
        "nested": [{"secret": {"a": "***", "n": "***", "more": ["***"]}}, 0.5],
        "args": ("--hub_token", "***", "--beta", "0.3"),
        "http://***@h": 1,
    }
    assert recipe["hub_token"] == "X"
    assert redact_mapping(redact_mapping(recipe)) == redact_mapping(recipe)


_PIECES = st.lists(
    st.sampled_from(
        [
            "password",
            "token",
            "--hub_token",
            "http://",
            "u:p@h",
            "=",
            ": ",
            " ",
            "'",
            '"',
            "\\",
            "&",
            "%3D",
            "%3A%2F%2F",
        ]
        + ["%40", "Bearer ", "abcdefgh1", "sk-abcdefgh", "***", ",", "[", "]", "/", "-", "@", "\n", "", "n", "?"]
    ),
    max_size=14,
).map("".join)


@given(_PIECES)
def test_doing_so_twice_changes_nothing(text):
    once = redact(text)
    assert redact(once) == once


_JSON = st.recursive(
    st.none() | st.integers() | _PIECES, lambda inner: st.lists(inner) | st.dictionaries(_PIECES, inner), max_leaves=6
)


@given(_JSON)
def test_json_stays_json(value):
    json.loads(redact(json.dumps(value)))


@pytest.mark.parametrize("secret", ["plain-value", 'with "quotes"', "back\\slash", "line\nbreak", "é, and a comma"])
def test_json_that_holds_a_secret_stays_json_and_loses_nothing_else(secret):
    told = json.loads(redact(json.dumps({"api_key": secret, "beside": [1, {"kept": "word"}]})))
    assert told == {"api_key": "***", "beside": [1, {"kept": "word"}]}

"""No key of the preferences stage and of its sources without an effect: each is changed, and something else comes out.

The stage is run on a small corpus, tracking apart. tests/launch/test_keys.py does the same for stages that train.
"""

import contextlib
import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from peft import LoraConfig, get_peft_model

import launch.preferences as stage
from launch import tracking
from epo.emotions import EMOTIONS
from epo.preferences.source import SOURCES
from epo.preferences.sources import llm
from epo.preferences.verification import Thresholds

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Changed:
    """Another value, what is looked at, and what the recipe says beside both."""

    value: Any
    seen: str = "pairs"
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """Another value that is refused, in which words, and what the recipe says beside it."""

    value: Any
    message: str
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Elsewhere:
    """The test that sees the effect."""

    test: str


_VERIFICATION = "tests/preferences/test_verification.py::"
_VERIFICATION_STAGE = "tests/preferences/test_verification_stage.py::"
_ANYTHING_GOES = {
    "min_emotion_shift": -1.0, "min_rewrite_similarity": 0.0, "min_names_kept": 0.0, "max_names_added": 999,
    "refuse_other_acts": False, "refuse_task_talk": False, "max_copied": 1.0, "refuse_cut_off": False,
    "refuse_loops": False, "refuse_other_language": False, "max_length_ratio": 99.0, "min_script_share": 0.0,
}  # fmt: skip
_STAGE = "tests/preferences/test_preferences_stage.py::"
_ON_POLICY = "tests/preferences/test_on_policy.py::"
_HERE_TESTED = "tests/preferences/test_preference_keys.py::test_the_patience_of_a_recipe_is_that_of_the_client"
_ASKED = {"source": "llm", "llm_model": "m", "llm_base_url": "@stub", "max_similarity": 1.0, "splits": ["validation"]}
_LOADED = {"source": "llm", "llm_model": "@lm", "splits": ["validation"], "llm_max_tokens": 6} | _ANYTHING_GOES
_POLICY = {
    "data": "@corpus", "source": "policy", "policy_model": "@model", "policy_max_new_tokens": 8,
    "policy_batch_size": 5, "counter_emotion": "random", "max_dropped_share": 0.0, "replies": "last",
} | _ANYTHING_GOES  # fmt: skip
_CONTRADICT = {"source": "contradict", "kind": "contradiction", "descriptions": "@told"}
SHARED: dict[str, Any] = {
    "run": Elsewhere("tests/launch/test_run_names.py::test_a_flag_renames_the_run"),
    "pipeline": Changed("other", "tracked"),
    "experiment": Changed("other", "tracked"),
    "fresh": Elsewhere("tests/launch/test_stage_folder.py::test_changed_data_is_named_and_nothing_is_lost"),
    "output_dir": Elsewhere(_STAGE + "test_a_recipe_as_it_is_kept_beside_a_result_can_be_used_again"),
    "parts_root": Elsewhere("tests/launch/test_parts_root.py::test_all_that_a_stage_reads_of_a_part_comes_from_there"),
    "data": Changed("@less"),
    "source": Changed("opposite_random"),
    "kind": Refused("neutral", "source is retrieve, whose replies do not say what the gold reply says"),
    "counter_emotion": Changed("random"),
    "marginals": Changed("free"),
    "max_dropped_share": Changed(0.0),
    "replies": Changed("last"),
    "require_clip": Changed(True),
    "splits": Changed(["train", "validation"]),
    "emotion_judge": Refused("gone", "gone: neither a folder nor a reachable hub name holds this part"),
    "judge_embeddings": Refused("gone", "gone: neither a folder nor", {"emotion_judge": "embeddings"}),
    "judge_data": Refused(["gone.jsonl"], "gone.jsonl: no such file"),
    "judge_cache": Refused("cache", "judge_cache would do nothing: emotion_judge is words"),
    "max_replies": Changed(40),
    "embedding_model": Refused("gone", "gone"),
    "strict": Elsewhere(_VERIFICATION_STAGE + "test_strict_ends_with_two_after_everything_is_written"),
    "coherence_model": Refused("gone", "gone: neither a folder nor a reachable hub name holds this part"),
    "coherence_dtype": Changed("bfloat16", "coherence", {"coherence_model": "@lm", "splits": ["validation"]}),
    "seed": Changed(1),
    "min_emotion_distance": Changed(1.0, beside={"counter_emotion": "random", "source": "opposite_random"}),
    "min_emotion_divergence": Changed(0.9),
    "min_similarity": Changed(0.4),
    "max_similarity": Changed(0.4),
    "max_length_ratio": Changed(1.1),
    "min_script_share": Changed(0.0),
    "min_emotion_shift": Refused(0.95, "the counter emotion is hardly likelier in it", {"source": "opposite_random"}),
    "min_embedding_similarity": Elsewhere(
        _VERIFICATION + "test_content_is_compared_by_embeddings_where_a_model_is_named"
    ),
    **dict.fromkeys(
        (
            "min_rewrite_similarity", "min_names_kept", "max_names_added", "refuse_task_talk", "max_copied",
            "refuse_cut_off", "refuse_loops", "refuse_other_language", "refuse_other_acts",
        ),
        Elsewhere(_VERIFICATION + "test_each_check_drops_and_its_key_switches_it_off"),
    ),
}  # fmt: skip
OF_SOURCES: dict[str, dict[str, Any]] = {
    "rewrite": {},
    "opposite_random": {},
    "contradict": {
        "descriptions": Changed("@told otherwise", beside=_CONTRADICT),
        "remark": Changed("Seen: {}", beside=_CONTRADICT),
    },
    "retrieve": {
        "context_turns": Changed(1),
    },
    "llm": {
        "llm_base_url": Refused("http://127.0.0.1:9/v1", "127.0.0.1:9", _ASKED | {"llm_tries": 1}),
        "llm_model": Changed("other", "asked", _ASKED),
        "llm_dtype": Changed("bfloat16", "cached", _LOADED),
        "llm_key_variable": Changed("SOME_KEY", "asked", _ASKED),
        "llm_temperature": Changed(0.1, "asked", _ASKED),
        "llm_candidates": Changed(2, "asked", _ASKED),
        "llm_max_tokens": Changed(9, "asked", _ASKED),
        "llm_timeout_s": Elsewhere(_HERE_TESTED),
        "llm_tries": Elsewhere(_HERE_TESTED),
        "llm_first_pause_s": Elsewhere(_HERE_TESTED),
        "llm_concurrency": Changed(1, "busy", _ASKED),
        "llm_max_requests": Refused(3, "questions would have to be asked, llm_max_requests is 3", _ASKED),
        "context_turns": Changed(1, "asked", _ASKED),
    },
    "policy": {
        "policy_model": Changed("@model2", "cached", _POLICY),
        "policy_adapter": Changed("@adapter", "cached", _POLICY),
        "policy_temperature": Changed(0.0, "cached", _POLICY),
        "policy_max_new_tokens": Changed(4, "cached", _POLICY),
        "policy_batch_size": Changed(3, "cached", _POLICY),
        "policy_dtype": Refused("bfloat16", "was tuned in float32, and bfloat16 would round away", _POLICY),
        "cache_dir": Changed("@features", "features", _POLICY),
    },
    "on_policy": {
        **dict.fromkeys(
            (
                "policy_model", "policy_adapter", "policy_temperature", "policy_max_new_tokens", "policy_batch_size",
                "policy_dtype", "cache_dir",
            ),
            Elsewhere(_ON_POLICY + "test_its_writer_is_that_of_source_policy"),
        ),
        "policy_samples": Elsewhere(_ON_POLICY + "test_samples_are_kept_and_no_two_batches_are_the_same"),
        "chosen_reply": Elsewhere(_ON_POLICY + "test_each_sample_takes_its_side"),
    },
}  # fmt: skip
TABLE = {"shared": SHARED, **OF_SOURCES}
WORDS = dict(zip(EMOTIONS, ("Grr", "Yuck", "Eek", "Yay", "So", "Alas", "Wow"), strict=True))


def test_the_table_names_every_key():
    shared = {f.name for type_ in (stage.PreferencesRecipe, Thresholds) for f in dataclasses.fields(type_)}
    assert SHARED.keys() == shared
    of_sources = {name: {f.name for f in dataclasses.fields(source.settings)} for name, source in SOURCES.all().items()}
    assert {name: set(rows) for name, rows in OF_SOURCES.items()} == of_sources


@pytest.fixture(scope="module")
def talks():
    """Dialogues of two replies each, more neutral than not, some in another script, some with a clip."""
    rows = []
    for split, count in (("train", 56), ("validation", 21)):
        for i in range(count):
            first, second = (EMOTIONS[place % 7] if place % 5 < 3 else "neutral" for place in (i, i + 3))
            end = "и всё такое прочее." if i % 9 == 0 else f"topic {i % 5} it is" + " and so on" * (i % 3) + f", {i}."
            clip = {"clip": {"audio": "a.wav"}} if i % 2 else {}
            turns = [
                {"speaker": "user", "text": f"We met at the lake {i % 4} with {i % 3} boats."},
                {"speaker": "assistant", "text": f"{WORDS[first]}, lake {i % 4}, {end}", "emotion": first},
                {"speaker": "user", "text": f"Then topic {i % 5} came up.", "emotion": EMOTIONS[i % 7], **clip},
                {"speaker": "assistant", "text": f"{WORDS[second]}, {end}", "emotion": second},
            ]
            rows.append({"id": f"{split}-{i}", "split": split, "turns": turns})
    return rows


@pytest.fixture
def places(tmp_path, talks, corpus, stub, make_llm, make_tokenizer, make_model):
    """Return the path behind a name such as `@lm`, made when it is asked for."""

    def write(name, rows):
        (tmp_path / "a.wav").touch()  # named, and not heard by a source that reads words
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def save(name, *parts):
        for part in parts:
            part.save_pretrained(tmp_path / name)
        return tmp_path / name

    def tell(words):
        return [
            {"dialogue_id": row["id"], "turn": 2, "description": f"{words} {i}.", "evidence": {"AU12": (-1.0) ** i}}
            for i, row in enumerate(talks)
        ]

    def adapt():
        policy = get_peft_model(make_model(make_llm(0))[0], LoraConfig(r=2, target_modules="all-linear"))
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:
                parameter.data.fill_(0.3)
        policy.save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    known = {
        "talks": lambda: write("talks", talks),
        "told": lambda: write("told", tell("The brows rise")),
        "told otherwise": lambda: write("told otherwise", tell("The lids sink")),
        "less": lambda: write("less", talks[3:]),
        "lm": lambda: save("lm", make_llm(max_position_embeddings=2048), make_tokenizer()),  # for the question
        "model": lambda: save("model", *make_model(make_llm(0))),
        "model2": lambda: save("model2", *make_model(make_llm(7))),
        "adapter": adapt,
        "corpus": lambda: corpus / "dialogues.jsonl",
        "features": lambda: tmp_path / "features",
        "stub": lambda: stub.url,
    }
    made: dict[str, str] = {}

    def place(name):
        if name not in made:
            made[name] = str(known[name]())
        return made[name]

    return place


@pytest.fixture
def look(tmp_path, places, stub, monkeypatch):
    """Run the stage and return what is seen of it."""
    monkeypatch.setenv("SOME_KEY", "sk-another")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    tracked = []

    @contextlib.contextmanager
    def record(*args):
        tracked.append(args[1:3])
        yield SimpleNamespace(log_metrics=lambda values: None, log_artifact=lambda path: None)

    monkeypatch.setattr(tracking, "open_run", record)

    def look(seen, **keys):
        stub.requests.clear()
        stub.most_busy, number = 0, len(tracked)
        out = tmp_path / f"out{number}"
        keys = {"data": "@talks", "splits": ["train"], "output_dir": str(out)} | keys
        keys = {k: places(v[1:]) if isinstance(v, str) and v.startswith("@") else v for k, v in keys.items()}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(keys))
        stage.run(["--config", str(tmp_path / "recipe.yaml")])
        if seen == "pairs":
            return (out / "pairs.jsonl").read_bytes()
        if seen == "cached":  # what was asked and answered, before any pair was dropped
            return sorted((out / f"{keys['source']}_cache.jsonl").read_text().splitlines())
        if seen == "coherence":
            (summary,) = json.loads((out / "report.json").read_text())["splits"].values()
            return summary["coherence"]
        if seen == "asked":
            return sorted((headers.get("Authorization", ""), json.dumps(body)) for _, headers, body in stub.requests)
        return {"tracked": tracked[-1], "busy": stub.most_busy, "features": (tmp_path / "features").exists()}[seen]

    return look


def entries(kind):
    return [(name, key, row) for name, rows in TABLE.items() for key, row in rows.items() if isinstance(row, kind)]


def names(found):
    return {"argvalues": found, "ids": [f"{name}-{key}" for name, key, _ in found]}


@pytest.fixture(scope="module")
def before():
    """What was seen with each recipe before a key was changed."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key", "change"), **names(entries(Changed)))
def test_another_value_is_another_result(look, before, name, key, change):
    plain = (change.seen, repr(change.beside))
    if plain not in before:
        before[plain] = look(change.seen, **change.beside)
    assert look(change.seen, **change.beside | {key: change.value}) != before[plain]


@pytest.mark.parametrize(("name", "key", "refusal"), **names(entries(Refused)))
def test_what_cannot_be_is_refused(look, name, key, refusal):
    with pytest.raises(ValueError, match=refusal.message):
        look("pairs", **refusal.beside | {key: refusal.value})


@pytest.mark.parametrize(("name", "key", "row"), **names(entries(Elsewhere)))
def test_the_test_that_sees_it_exists(name, key, row):
    path, test = row.test.split("::")
    assert re.search(rf"def {test}\w*\(", (ROOT / path).read_text())


def test_the_patience_of_a_recipe_is_that_of_the_client():
    url = "http://127.0.0.1:9/v1"
    settings = llm.LlmSettings(
        llm_model="m", llm_base_url=url, llm_timeout_s=7.0, llm_tries=3, llm_first_pause_s=0.5, llm_concurrency=2
    )
    client = settings.open_client(url)
    retry = client._session.get_adapter(url).max_retries
    assert (client.endpoint.timeout_s, retry.total, retry.backoff_factor) == (7.0, 2, 0.5)

"""Pair sources: one file each, found by name; one that another package brings is as good as ours."""

import dataclasses
import importlib
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import launch.preferences as stage
from epo import registry
from epo.asking.endpoint import EndpointError
from epo.data.dialogue import Dialogue, Turn, write_dialogues
from epo.emotions import EMOTIONS
from epo.extras import MissingExtraError
from epo.preferences import sources
from epo.preferences.source import SOURCES, NoSettings, PairSource, SourceError, get_source
from epo.preferences.sources.llm import LlmSettings
from epo.preferences.sources.policy import PolicySettings
from epo.preferences.sources.retrieve import RetrieveSettings
from epo.registry import TakenNameError
from launch.folder.stage_state import stage_state
from launch.keys.roles import Role, own_roles
from launch.recipe import RecipeError, declared, read_recipe

ROOT = Path(__file__).parents[2]
OURS = ["contradict", "llm", "on_policy", "opposite_random", "policy", "retrieve", "rewrite"]


@dataclass(frozen=True, kw_only=True)
class ParrotSettings:
    """Keys of a source that says a fixed thing in the counter emotion."""

    parrot_words: str = field(default="It makes me", metadata={"help": "what is said before the emotion"})
    parrot_voice: str | None = field(default=None, metadata={"help": "a file", "role": "part"})
    parrot_pause_s: float = field(default=0.0, metadata={"help": "between words", "role": "cosmetic"})
    is_loud: bool = field(default=True, metadata={"help": "with a mark", "role": "cosmetic"})

    def __post_init__(self):
        if self.parrot_words == "":
            raise SourceError("parrot_words is empty, want some words")


class Parrot:
    name = "parrot"

    def __init__(self, words):
        self.words = words

    def available(self, gold):
        return frozenset(EMOTIONS)

    def propose(self, gold, emotions):
        numbered = zip(gold, emotions, strict=True)
        return [[f"{self.words} {emotion}, number {reply.dialogue_id}."] for reply, emotion in numbered]


PARROT = PairSource(
    about="it says the same", settings=ParrotSettings, make=lambda settings, context: Parrot(settings.parrot_words)
)


@pytest.fixture
def parrot():
    SOURCES.register("parrot", PARROT)
    yield
    SOURCES.forget("parrot")


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("talks") / "dialogues.jsonl"
    talks = [
        Dialogue(
            f"d{i}",
            (Turn("user", f"About {i}.", EMOTIONS[i % 7]), Turn("assistant", f"So {i} it is then.", EMOTIONS[i % 7])),
            split="train",
        )
        for i in range(28)
    ]
    write_dialogues(path, talks)
    return path


@pytest.fixture
def recipe(tmp_path, data):
    def write(**keys):
        path = tmp_path / "recipe.yaml"
        own = {"data": str(data), "output_dir": str(tmp_path / "out"), "splits": ["train"]}
        path.write_text(yaml.safe_dump(own | keys))
        return ["--config", str(path)]

    return write


def test_a_source_is_one_file_that_says_all_about_it():
    modules = sorted(entry.name for entry in pkgutil.iter_modules(sources.__path__))
    assert SOURCES.names() == OURS == [name for name in modules if not name.startswith("_")]  # those are shared
    page = (ROOT / "docs" / "preferences.md").read_text()
    for name, source in SOURCES.all().items():
        assert source.about and f"| `{name}` |" in page
        assert own_roles([source.settings]).keys() <= {entry.name for entry in dataclasses.fields(source.settings)}
        for entry in dataclasses.fields(source.settings):
            assert entry.metadata["help"] and (entry.name in page or entry.name.split("_")[0] in OURS), entry.name


def test_a_recipe_sets_the_keys_of_a_source_from_outside(parrot, recipe, tmp_path, capsys):
    argv = recipe(source="parrot", parrot_words="I say it is", max_length_ratio=9.0, min_emotion_shift=-1.0)
    stage.run(argv)
    rows = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert len(rows) > 15 and {row["source"] for row in rows} == {"parrot"}
    assert all(row["rejected"].startswith(f"I say it is {row['rejected_emotion']}, number d") for row in rows)
    kept = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert kept["parrot_words"] == "I say it is" and "llm_model" not in kept and "context_turns" not in kept
    # What its keys mean for the result stands in its file: a cosmetic one changes nothing, another one does.
    capsys.readouterr()
    stage.run([*argv, "--parrot_pause_s", "3", "--no_is_loud"])
    assert "already done" in capsys.readouterr().out
    options = lambda *flags: (str(ROOT / "launch" / "preferences.py"), [*argv, *flags])  # noqa: E731
    assert stage_state(*options("--parrot_pause_s", "3")).kind == "done"
    assert stage_state(*options("--parrot_words", "Now")).reasons == ("parrot_words: I say it is -> Now",)
    (tmp_path / "voice.txt").write_text("low")
    changed = stage_state(*options("--parrot_voice", str(tmp_path / "voice.txt")))
    assert changed.reasons == (f"parrot_voice: none -> {tmp_path / 'voice.txt'}",)


def test_its_keys_are_refused_like_those_of_ours(parrot, recipe):
    for source, keys, message in (
        (
            "parrot",
            {"llm_model": "m"},
            "key llm_model belongs to source llm; this recipe's source is parrot, which ign",
        ),
        ("rewrite", {"parrot_words": "x"}, "key parrot_words belongs to source parrot; this recipe's source is rewri"),
        ("parrot", {"parrot_word": "x"}, "unknown key 'parrot_word'; the nearest known key is 'parrot_words'"),
        ("parrot", {"parrot_words": 3}, "parrot_words is 3, want str"),
        ("parrot", {"parrot_words": ""}, "recipe.yaml: parrot_words is empty, want some words"),
        (
            "parot",
            {},
            "recipe.yaml: source: no source is called 'parot'; the nearest is 'parrot', and there are contradict, llm",
        ),
    ):
        for read in (read_recipe, declared):
            with pytest.raises(RecipeError, match=message):
                read(stage.RECIPES, recipe(source=source, **keys))


def test_an_installed_package_brings_a_source(tmp_path, recipe):
    """The one that docs/preferences.md shows, by its entry point alone."""
    section = (ROOT / "docs" / "preferences.md").read_text().split("### A source of your own")[1]
    source, entry = (section.split(f"```{language}\n")[1].split("```")[0] for language in ("python", "toml"))
    (tmp_path / "parrot.py").write_text(source)
    info = tmp_path / "parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        entry.replace('project.entry-points."epo.sources"', "epo.sources").replace('"', "")
    )
    code = (
        "import launch.preferences as stage, sys; from launch.recipe import read_recipe;"
        "print(read_recipe(stage.RECIPES, sys.argv[1:])[-1])"
    )
    path = ":".join([str(tmp_path), str(ROOT), *sys.path])
    command = [sys.executable, "-c", code, *recipe(source="parrot", parrot_words="So"), "--parrot_tries", "4"]
    done = subprocess.run(command, env={"PYTHONPATH": path, "PATH": ""}, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "ParrotSettings(parrot_words='So', parrot_tries=4)", done.stderr


def test_a_taken_name_and_a_thing_that_is_no_source_are_refused(recipe):
    with pytest.raises(TakenNameError, match="source 'llm': the name is taken already; give what is being registered"):
        SOURCES.register("llm", PARROT)
    SOURCES.register("stone", "a stone")
    try:
        with pytest.raises(RecipeError, match="source: source 'stone' is 'a stone', want a PairSource of epo.pref"):
            read_recipe(stage.RECIPES, recipe(source="stone"))
        # nor does it stand in the way of telling whose another key is
        with pytest.raises(RecipeError, match="key llm_model belongs to source llm; "):
            read_recipe(stage.RECIPES, recipe(llm_model="m"))
    finally:
        SOURCES.forget("stone")
    with pytest.raises(SourceError, match="settings of a source are <class 'dict'>, want a dataclass of its keys"):
        PairSource(about="", settings=dict, make=lambda settings, context: Parrot(""))


def test_a_source_whose_package_is_missing_names_the_command(monkeypatch, recipe):
    entry = importlib.metadata.EntryPoint("heron", "no_such_heron.source:SOURCE", "epo.sources")
    monkeypatch.setattr(registry, "_entry_points", lambda group: (entry,))
    with pytest.raises(MissingExtraError, match="source 'heron' needs no_such_heron, .*: pip install no-such-heron"):
        get_source("heron")
    with pytest.raises(RecipeError, match="key llm_model belongs to source llm; "):
        read_recipe(stage.RECIPES, recipe(llm_model="m"))


@dataclass
class Misspelt:
    """A key with a role that is none."""

    colour: str = field(default="red", metadata={"role": "cosmtic"})


def test_a_role_that_is_none_is_refused():
    with pytest.raises(RecipeError, match="Misspelt.colour: its role is 'cosmtic', want one of matters, file, part"):
        own_roles([Misspelt])
    roles: dict[str, Role] = own_roles([LlmSettings, PolicySettings, RetrieveSettings])
    assert roles["llm_model"] == roles["policy_model"] == "part"
    assert roles["policy_batch_size"] == "layout" and roles["llm_tries"] == roles["cache_dir"] == "cosmetic"
    assert not roles.keys() & {"llm_temperature", "context_turns", "policy_dtype", "llm_base_url", "llm_dtype"}


@pytest.mark.parametrize(
    ("settings", "keys", "message"),
    [
        (LlmSettings, {}, "source llm wants llm_model, and llm_base_url unless the model is to be loaded here"),
        (LlmSettings, {"llm_model": "m", "context_turns": -1}, "context_turns is -1, want 0"),
        (LlmSettings, {"llm_model": "m", "llm_candidates": 0}, "llm_candidates is 0, want 1 to"),
        (LlmSettings, {"llm_model": "m", "llm_temperature": 0.0}, "llm_candidates is 4, but all are the same at"),
        (LlmSettings, {"llm_model": "m", "llm_key_variable": "K"}, "key llm_key_variable belongs to an endpoint, and"),
        (PolicySettings, {}, "source policy wants policy_model, a folder written by launch/sft.py"),
        (RetrieveSettings, {"context_turns": -1}, "context_turns is -1, want 1 or more"),
    ],
)
def test_settings_refuse_what_cannot_be_wherever_they_are_made(settings, keys, message):
    with pytest.raises(SourceError, match=re.escape(message)):
        settings(**keys)


def test_what_would_stop_a_source_here_is_refused_before_time_is_spent(recipe):
    with pytest.raises(EndpointError, match="llm_base_url is 'host', want such as http"):
        stage.run(recipe(source="llm", llm_model="m", llm_base_url="host", data="gone.jsonl"))


def test_parts_are_what_is_loaded_here():
    assert list(get_source("llm").parts(LlmSettings(llm_model="m"))) == ["llm_model"]
    assert list(get_source("llm").parts(LlmSettings(llm_model="m", llm_base_url="http://127.0.0.1:1/v1"))) == []
    assert list(get_source("retrieve").parts(RetrieveSettings())) == []
    assert list(get_source("rewrite").parts(NoSettings())) == []
    assert [name for name in OURS if get_source(name).reads_clips] == ["on_policy", "policy"]

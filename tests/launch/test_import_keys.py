"""No key of `data import` without an effect: each is changed, and something else is written."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epo.data.corpora.builtin import BuiltinCorpus
from epo.data.corpora.builtin.writer import _plan
from epo.data.corpora.listing import corpora
from launch.data_verbs import importing

ROOT = Path(__file__).parents[2]
_TABLE = "tests/data/corpora/test_table.py::"
ELSEWHERE = {
    "run": "tests/launch/test_run_names.py::test_a_flag_renames_the_run_and_what_is_named_after_it",
    "fresh": "tests/launch/test_stage_folder.py::test_changed_data_is_named_and_nothing_is_lost",
    "iemocap_left": "tests/data/corpora/test_iemocap.py::test_a_turn_shows_its_own_speaker",
    "columns": _TABLE + "test_rows_become_dialogues",
    "files": _TABLE + "test_splits_by_file_and_by_name",
    "labels": _TABLE + "test_labels_that_are_not_in_the_map_are_counted_before_anything_is_written",
    "media": _TABLE + "test_clips_by_template",
    "audio": _TABLE + "test_clips_by_template",
    "video": _TABLE + "test_clips_by_template",
    "rows": _TABLE + "test_rows_deep_in_json",
    "pattern": _TABLE + "test_names_of_recordings_are_rows",
    "values": _TABLE + "test_patterns_and_codes_make_columns",
    "user": _TABLE + "test_roles_alternate_or_the_user_is_named",
    "remove": _TABLE + "test_patterns_and_codes_make_columns",
    "delimiter": _TABLE + "test_every_shape_gives_the_same",
    "quotes": _TABLE + "test_a_quote_mark_may_be_a_letter",
    "language": _TABLE + "test_what_else_a_table_says_is_kept",
}
CHANGES = {
    "corpus": "table",
    "root": "@other",
    "output_dir": "elsewhere",
    "on_error": "skip",
    "validation_share": 0.5,
    "test_share": 0.5,
    "split_by": "dialogue",
    "min_split": 4,
    "max_dialogues": 12,
    "seed": 1,
    "decode": False,
    "workers": 1,
    "pipeline": "another",
    "experiment": "another",
}
SIZES = {
    "num_train": 7, "num_train_with_clips": 2, "num_validation": 3, "num_test": 3, "num_train_speakers": 2,
    "num_validation_speakers": 1, "num_test_speakers": 1, "generic_share": 0.0, "clips_per_dialogue": 1,
    "voice": "espeak",
}  # fmt: skip
SMALL = BuiltinCorpus(num_train=6, num_train_with_clips=4, num_validation=2, num_test=2, generic_share=0.9)


def test_the_table_names_every_key():
    own = {field.name for field in dataclasses.fields(importing.ImportRecipe)}
    options = {
        field.name for c in corpora().values() if c.options is not None for field in dataclasses.fields(c.options)
    }
    assert own | options == CHANGES.keys() | ELSEWHERE.keys()
    assert {field.name for field in dataclasses.fields(importing._BUILTIN_SIZES)} == SIZES.keys()


@pytest.mark.parametrize("key", sorted(ELSEWHERE))
def test_the_tests_elsewhere_are_there(key):
    path, _, name = ELSEWHERE[key].partition("::")
    text = (ROOT / path).read_text()
    assert f"def {name}(" in text


@pytest.mark.parametrize("key", sorted(SIZES))
def test_sizes_of_the_builtin_corpus(key, tmp_path):
    def planned(settings):
        dialogues, jobs = _plan(tmp_path, settings)
        return repr(dialogues), repr(jobs)

    assert planned(dataclasses.replace(SMALL, **{key: SIZES[key]})) != planned(SMALL)


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """Imports a small corpus and returns what came of it."""
    monkeypatch.chdir(tmp_path)
    for name, reply in (("corpus", "Rest."), ("other", "Run.")):
        (tmp_path / name).mkdir()
        cut = tmp_path / name / "cut.flac"
        soundfile.write(cut, np.random.default_rng(0).normal(scale=0.1, size=16_000), 16_000)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])  # it opens; only reading it tells
        rows = [
            {
                "id": f"d{i}",
                "group": f"g{i // 3}",
                "turns": [{"speaker": "user", "text": f"I ran {i} miles."}, {"speaker": "assistant", "text": reply}],
            }
            for i in range(24)
        ]
        rows[5]["turns"][0]["clip"] = {"audio": "cut.flac"}
        (tmp_path / name / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = {}

    @contextlib.contextmanager
    def record(stage, pipeline, experiment, out, keys):
        seen["tracked"] = (pipeline, experiment)
        yield type("Run", (), {"log_metrics": lambda *_: None, "log_artifact": lambda *_: None})()

    whole = importing.import_corpus

    def counted(*args, workers, **kwargs):
        seen["workers"] = workers
        return whole(*args, workers=workers, **kwargs)

    monkeypatch.setattr(importing, "open_run", record)
    monkeypatch.setattr(importing, "import_corpus", counted)

    def outcome(capsys, **changes):
        keys = {"corpus": "jsonl", "root": "corpus", "output_dir": "out", "on_error": "skip"} | changes
        for folder in ("out", "elsewhere"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        argv = [part for key, value in keys.items() for part in (f"--{key}", str(value).removeprefix("@"))]
        try:
            importing.run(argv)
            failed = None
        except ValueError as error:
            failed = str(error)
        written = Path(keys["output_dir"], "dialogues.jsonl")
        text = written.read_text() if written.is_file() else None
        return failed, text, str(written), dict(seen), capsys.readouterr().out.count("cut.flac")

    return outcome


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_every_key_has_an_effect(key, outcome, capsys):
    before = {"on_error": "stop"} if key == "on_error" else {}
    assert outcome(capsys, **before) != outcome(capsys, **before | {key: CHANGES[key]})


def test_nothing_else_differs_between_two_runs(outcome, capsys):
    assert outcome(capsys) == outcome(capsys)

"""An evaluation's own extractor measures speech: what a file says stays, the report tells who measured and how well."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from epo.data.selection import rated_clips
from epo.evaluation.contestants import Generation
from epo.evaluation.evaluating import choose_suites, compare
from epo.evaluation.report import render_html
from epo.evaluation.suite import Answers, Task
from epo.evaluation.vad_file import VadCourse
from launch.measured_courses import with_measured_courses
from launch.planning.pipeline_files import StageFiles, Writer
from launch.recipe import RecipeError


@pytest.fixture
def folder(tmp_path, make_extractor, reader):
    make_extractor(has_vad=True).save_pretrained(tmp_path / "measuring")
    reader.save(tmp_path / "measuring")
    return str(tmp_path / "measuring")


def test_courses_are_measured_where_a_file_says_nothing(folder, dialogues, examples):
    training = [replace(examples[0], text=text, emotion=label) for text, label in (("a", "sad"), ("b", "happy"))]
    said = VadCourse("d0", examples[0].turn - 1, "user", np.zeros((1, 3)), "a probe")
    rated = [
        replace(d, turns=tuple(replace(t, vad=(i / 12, 0.1, -0.2)) for t in d.turns)) for i, d in enumerate(dialogues)
    ]
    task = Task(examples, training=training, has_model=True, vad=[said], rated=rated_clips(rated))
    assert with_measured_courses(None, None, task, dialogues, torch.device("cpu")) is task
    task = with_measured_courses(folder, None, task, dialogues, torch.device("cpu"))
    assert [course.dialogue_id for course in task.vad] == [f"d{i}" for i in range(12) if i != 4]  # which has no clip
    answers = Answers("said", ["a b"] * len(examples))
    report = compare([answers], task, choose_suites(["trajectories", "recognition"], task), Generation())
    basis = report["basis"]["trajectories"]["text"]
    assert "1 courses measured by a probe, 10 courses measured by the extractor" in basis
    found = report["vad_recognition"]
    assert found["num_rated"] == 11 and found["arousal_ccc"] == pytest.approx(0.0, abs=1e-6)
    assert "emotion_recognition" not in report
    page = render_html(report)
    assert "agrees with the people who rated 11 clips" in page and "2 s a point (our choice)" in page


def test_an_extractor_without_the_head_is_refused_before_anything_is_loaded(tmp_path, folder, make_extractor):
    files = StageFiles()
    files.require_vad_head(folder)
    files.require_vad_head(None)
    make_extractor().save_pretrained(tmp_path / "plain")
    with pytest.raises(
        RecipeError, match="vad_extractor: .*plain has no head for valence, arousal and dominance; name"
    ):
        files.require_vad_head(str(tmp_path / "plain"))


@pytest.mark.parametrize(("vad_weight", "is_refused"), [(0.0, True), (0.5, False)])
def test_so_is_one_that_a_stage_before_will_train_without_it(tmp_path, vad_weight, is_refused):
    """Whatever lies in its folder from an earlier run."""
    files = StageFiles()
    recipe = SimpleNamespace(vad_weight=vad_weight)
    files.add(Writer("extractor", "extractor.py", recipe), str(tmp_path / "plain"))
    with pytest.raises(RecipeError, match="vad_weight above 0") if is_refused else contextlib.nullcontext():
        files.require_vad_head(str(tmp_path / "plain"))


def test_a_whole_model_carries_no_head(folder, tmp_path, make_llm, make_compressor, make_tokenizer):
    from epo.model.loading import join_parts

    for name, make in (("llm", make_llm), ("memory", make_compressor)):
        make().save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
    model, _ = join_parts(str(tmp_path / "llm"), folder, str(tmp_path / "memory"))
    assert not model.config.extractor_config.has_vad and not any("vad_head" in name for name in model.state_dict())

"""Courses: the parent's scores on a hand-worked pair, the corrected ones, edges, and the file of measured courses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from epo.data.dialogue import DataError
from epo.evaluation import trajectories as t
from epo.evaluation.evaluating import evaluate
from epo.evaluation.vad_file import VadCourse, read_vad, unused_rows

USER = np.array([[0.2, 0.4, 0.5]] * 2)
AGENT = np.array([[0.3, 0.4, 0.5], [0.3, 0.5, 0.5], [0.3, 0.5, 0.5]])
NEXT = np.array([[0.1, 0.2, 0.5]] * 2)


def test_the_parents_scores_by_hand():
    """DTW of valence 0.3, of arousal 0.2; arousal alone is extreme, and its DTW once moved is 0.515."""
    assert t.alignment_cost(USER[:, 0], AGENT[:, 0])[0] == pytest.approx(0.3)
    assert t.alignment_cost(USER[:, 1], AGENT[:, 1])[0] == pytest.approx(0.2)
    assert t.ecs_parent(USER, AGENT) == pytest.approx(0.79167, abs=5e-6)
    assert t.ess_parent(AGENT) == pytest.approx(0.5)
    assert t.ct_ess_parent([AGENT, NEXT]) == pytest.approx(0.61111, abs=5e-6)
    assert t.extreme_dimensions(USER) == [1] and t.extreme_dimensions(USER * [-1, 0, 0.2]) == [0, 2]
    assert t.ebs_parent(USER, AGENT) == pytest.approx(-0.2875)
    assert t.ers_parent(t.ecs_parent(USER, AGENT), t.ebs_parent(USER, AGENT), 0.5) == pytest.approx(0.30167, abs=5e-6)
    assert t.ers_parent(0.5, None, 1.0) == pytest.approx(0.65) and t.ct_ers_parent(0.5, None, 1.0) == pytest.approx(0.7)
    assert t.ct_ers_parent(1.0, 0.0, 0.5) == pytest.approx(0.5)


def test_the_corrected_scores_by_hand():
    """Along three pairs valence is 0.1 apart, arousal 0, 0.1 and 0.1: means 0.1 and 0.0667, so 1 - 0.0833 / 2."""
    assert t.ecs(USER, AGENT) == pytest.approx(1 - (0.1 + 0.2 / 3) / 2 / 2)
    assert t.ebs(USER, AGENT) == pytest.approx(1 - 0.515 / 3 / 2)
    assert t.ess(AGENT) == pytest.approx(1 - 0.1 / 6 / 2)  # one of six steps
    assert t.ers(1.0, None, 0.4) == pytest.approx(0.8) and t.ers(None, None, None) is None


def test_corrected_scores_are_shares_and_longer_replies_are_not_punished():
    rng = np.random.default_rng(0)
    for _ in range(50):
        user, agent = (rng.uniform(-1, 1, size=(rng.integers(1, 9), 3)) for _ in range(2))
        for value in (t.ecs(user, agent), t.ebs(user, agent), t.ess(agent)):
            assert value is None or 0 <= value <= 1
    constant = np.tile(USER[:1], (12, 1))
    assert t.ecs(USER, constant) == 1.0 and t.ess(constant) == 1.0
    rare, constant = np.array([[0.0], [0.2], [0.2]]), np.array([[0.0], [0.2], [0.0], [0.2]])
    assert t.ess_parent(rare) == pytest.approx(t.ess_parent(constant)) and t.ess(rare) > t.ess(constant)


def test_lengths_of_0_and_1_have_no_score_that_needs_more():
    nothing, point = np.zeros((0, 3)), USER[:1]
    assert t.ecs(USER, nothing) is None and t.ebs(USER, nothing) is None and t.ess(nothing) is None
    assert t.ess(point) is None and t.ess_parent(point) == 1.0 and t.ct_ess_parent([AGENT]) is None
    with pytest.raises(ValueError, match="a course without a step cannot be aligned"):
        t.alignment_cost([], [1.0])


def test_alignment_is_that_of_the_slow_way():
    def slow(a, b):
        if not a or not b:
            return float("inf") if a or b else 0.0
        cost = abs(a[-1] - b[-1])
        return cost if len(a) == len(b) == 1 else cost + min(slow(a[:-1], b[:-1]), slow(a[:-1], b), slow(a, b[:-1]))

    rng = np.random.default_rng(1)
    for _ in range(10):
        a, b = (rng.normal(size=rng.integers(1, 6)).tolist() for _ in range(2))
        assert t.alignment_cost(a, b)[0] == pytest.approx(slow(a, b))


def test_concordance_by_hand_and_of_constants():
    assert t.concordance([0.1, 0.4, 0.7], [0.0, 0.5, 1.0]) == pytest.approx(0.84507, abs=5e-6)
    assert t.concordance([1.0, 2.0], [1.0, 2.0]) == 1.0 and t.concordance([2.0, 1.0], [1.0, 2.0]) == -1.0
    assert t.concordance([0.3, 0.3], [0.0, 1.0]) == 0.0 and t.concordance([0.3, 0.3], [0.3, 0.3]) == 1.0
    assert t.concordance([0.3], [0.3]) is None
    with pytest.raises(ValueError, match="1 values but 2 to compare with"):
        t.concordance([1.0], [1.0, 2.0])


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "vad.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def line(**changes):
    return {"dialogue_id": "d4", "turn": 3, "speaker": "assistant", "vad": [[0.1, 0.2, 0.3]]} | changes


def test_courses_from_a_file(write, dialogues, examples):
    """A rendered reply's course counts for the row that it is of; one of 2 Hz is averaged to seconds."""
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    rows = (
        line(row="model", rate_hz=2, vad=[[0.0, 0.0, 0.0], [0.2, 0.4, 0.0], [0.6, 0.6, 0.6]], source="probe"),
        line(vad=[]),
        line(turn=2, speaker="user", vad=[[-0.5, 0.5, 0.5]] * 2),
    )
    found = read_vad(write(*rows), by_id)
    assert (
        unused_rows(found, ["model"]) == []
        and "count for nothing: 1 of 'model'; the rows are a, b." in (unused_rows(found, ["a", "b"])[0])
    )
    assert found[0].vad.tolist() == [[0.1, 0.2, 0.0], [0.6, 0.6, 0.6]] and found[1].vad.shape == (0, 3)
    training = [
        replace(examples[0], text=text, emotion=label) for text, label in (("sorry", "sad"), ("great", "happy"))
    ]
    report = evaluate(
        ["Sorry, great.", "...", "(sad) Sorry."], examples[4:7], ["trajectories"], training=training, vad=found
    )
    (row,) = report["rows"]
    assert row["trajectory_counts"]["measured"] == 1 and row["trajectory_counts"]["left_out"]["ers"] == 1
    assert row["trajectory_counts"]["left_out"]["ess"] == 2 and 0 < row["ers"] <= 1
    assert (
        "3 courses" not in report["basis"]["trajectories"]["text"]
        and "by probe" in report["basis"]["trajectories"]["text"]
    )


def test_a_users_rating_stands_before_the_point_of_the_label(examples):
    """A rated user of valence 1 and arousal -1 is 1 from a neutral reply in both: 1 - 1 / 2."""
    training = [replace(examples[0], text=text, emotion=label) for text, label in (("a", "sad"), ("b", "neutral"))]
    rated = [replace(one, current=replace(one.current, vad=(1.0, -1.0, 0.0))) for one in examples[:2]]
    courses = [VadCourse(one.dialogue_id, one.turn, "assistant", np.zeros((1, 3)), "s", "model") for one in rated]
    report = evaluate(["a", "b"], rated, ["trajectories"], training=training, vad=courses)
    assert report["rows"][0]["ecs"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (line(turn=9), ":1: turn 9 of dialogue 'd4' is not in the dialogues file; want {"),
        (line(dialogue_id="x"), ":1: turn 3 of dialogue 'x' is not in"),
        (line(speaker="user"), ":1: speaker is 'user', but turn 3 is the assistant's"),
        (line(vad=[[2.0, 0.0, 0.0]]), ":1: vad holds values outside of -1 to 1; map the model's scale first"),
        (line(vad=[[0.1, 0.2]]), r":1: vad is \[\[0.1, 0.2\]\]; want rows of valence, arousal and dominance"),
        (line(rate_hz=0), ":1: rate_hz is 0, want rows a second, from 1 to 1000"),
        (line(rate_hz=0.5), ":1: rate_hz is 0.5, want rows a second, from 1"),
        (line(rate_Hz=25), ":1: unknown key 'rate_Hz'; known are dialogue_id, .*rate_hz"),
        (line(row=3), ":1: row is 3; want the name of the row"),
    ],
)
def test_faults_of_the_file(write, dialogues, row, message):
    with pytest.raises(DataError, match=r"vad\.jsonl" + message):
        read_vad(write(row), {dialogue.id: dialogue for dialogue in dialogues})
    with pytest.raises(DataError, match="again; keep one line"):
        read_vad(write(line(), line()), {dialogue.id: dialogue for dialogue in dialogues})


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="gone.jsonl: no such file; write one JSON object a line"):
        read_vad(tmp_path / "gone.jsonl", {})

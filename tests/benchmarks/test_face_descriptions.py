"""The probes of benchmarks/face_descriptions.py, on numbers of which it is known what they hold."""

import numpy as np
import pytest

from benchmarks.face_descriptions import errors_of_cues, hits_of_emotions, summary


def test_a_probe_finds_what_states_hold_and_nothing_else():
    """Two cues, one of them twice the first state, the other in none; R2 of the mean of the second set is 0."""
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(count, 4)) for count in (400, 200)]
    cues = [np.stack([2 * one[:, 0], rng.normal(size=len(one))], axis=1) for one in states]
    errors = errors_of_cues(states, cues)
    assert errors.shape == (200, 2)
    assert 1 - errors.mean(0) == pytest.approx([1.0, 0.0], abs=0.05)


def test_more_labels_read_more_emotions_rightly():
    """One state in eight tells which of two emotions it is, under noise: 50 labels tell less than all 400."""
    rng = np.random.default_rng(0)
    emotions = [rng.choice(["happy", "sad"], size=count) for count in (400, 300)]
    states = [rng.normal(size=(len(one), 8)) + 1.5 * np.outer(one == "sad", np.eye(8)[0]) for one in emotions]
    hits = hits_of_emotions(states, emotions)
    assert list(hits) == [f"probe, {count} labelled clips" for count in (50, 100, 300, 400)]
    assert hits["probe, 50 labelled clips"].mean() < hits["probe, 400 labelled clips"].mean()
    assert set(hits["probe, 400 labelled clips"]) == {0, 1}
    assert set(np.round(3 * hits["probe, 50 labelled clips"])) <= {0, 1, 2, 3}  # of three draws


def test_differences_are_paired():
    """Second is 0.25 above first on each of four clips: no interval is wider than nothing."""
    first = {"R2": np.array([0.0, 0.25, 0.5, 0.75])}
    draws = np.random.default_rng(0).integers(4, size=(500, 4))
    found = summary({"R2": first["R2"] + 0.25}, first, draws)["R2"]
    assert (found["mean"], found["difference"], found["difference_interval"]) == (0.625, 0.25, [0.25, 0.25])
    assert found["interval"][0] < 0.625 < found["interval"][1]

"""Damaged files are decoded or refused by name: no crash, no hang, no other exception. A benchmark runs thousands."""

import argparse
from pathlib import Path

import pytest

from epo.model.clip_reader import ClipReader

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [5])
def test_damaged_files_do_no_harm(tmp_path, monkeypatch, seed):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.fuzz_media import fuzz

    result = fuzz(tmp_path, argparse.Namespace(files=48, workers=1, seed=seed, seconds=60.0, keep=None))
    assert (result["files"], result["faults"], result["wrong_seeds"]) == (48, [], [])
    assert set(result["outcomes"]) <= {"decoded", "refused"}


def test_what_another_reader_made_is_not_used_again():
    from transformers import SiglipImageProcessorPil, WhisperFeatureExtractor

    from epo.data.media import READER_VERSION

    reader = ClipReader(
        WhisperFeatureExtractor(), SiglipImageProcessorPil(size={"height": 32, "width": 32}), 30.0, 4.0, 8
    )
    assert READER_VERSION > 1 and reader._settings.startswith(f"reader {READER_VERSION}|")

"""MediaFolder: links where it can, copies where it must, and writes nowhere else."""

import os

import pytest

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus" / "clips").mkdir(parents=True)
    (tmp_path / "corpus" / "clips" / "a.wav").write_bytes(b"sound")
    return tmp_path / "corpus"


def test_a_copy_is_made_where_links_are_refused(tmp_path, corpus, monkeypatch):
    def refuse(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    placed = MediaFolder(tmp_path / "out", corpus, ImportReport()).place(corpus / "clips" / "a.wav", "row 1")
    assert placed == tmp_path / "out" / "media" / "clips" / "a.wav"
    assert placed.read_bytes() == b"sound"
    assert not os.path.samefile(placed, corpus / "clips" / "a.wav")
    assert [path.name for path in placed.parent.iterdir()] == ["a.wav"]


def test_an_interrupted_copy_leaves_no_file_under_the_name(tmp_path, corpus):
    media = MediaFolder(tmp_path / "out", corpus, ImportReport())

    def interrupted(partial):
        partial.write_bytes(b"so")
        raise KeyboardInterrupt

    target = media.root / "a.wav"
    with pytest.raises(KeyboardInterrupt):
        media.write(target, interrupted)
    assert not target.exists()
    media.write(target, lambda partial: partial.write_bytes(b"sound"))
    assert target.read_bytes() == b"sound"
    assert [path.name for path in media.root.iterdir()] == ["a.wav"]


def test_a_link_within_the_corpus_is_followed(tmp_path, corpus):
    (corpus / "other").symlink_to(corpus / "clips")
    placed = MediaFolder(tmp_path / "out", corpus, ImportReport()).place(corpus / "other" / "a.wav", "row 1")
    assert placed == tmp_path / "out" / "media" / "clips" / "a.wav"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.wav", "a/../../b.wav", "a\0b", "C:\\a.wav", "a\\..\\b"])
def test_unsafe_names_have_no_place(name, tmp_path, corpus):
    assert MediaFolder(tmp_path / "out", corpus, ImportReport()).safe_path(name) is None


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_names_are_missing_clips(name, tmp_path, corpus):
    report = ImportReport()
    assert MediaFolder(tmp_path / "out", corpus, report).place(corpus / name, "row 1") is None
    assert report.notes["clip missing"] == 1

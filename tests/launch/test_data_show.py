"""`data show` without an id: a folder of pages, and the mistakes one makes."""

import json

import pytest

from launch.data_verbs import showing
from launch.recipe import RecipeError

TURNS = [{"speaker": "user", "text": "Hi.", "emotion": "sad"}, {"speaker": "assistant", "text": "Oh."}]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "dialogues.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "turns": TURNS}) + "\n" for i in range(30)))
    return path


def test_a_corpus_becomes_an_index_and_a_few_pages(file, tmp_path, capsys):
    showing.run([str(file), "--html", str(tmp_path / "pages"), "--limit", "3", "--workers", "1"])
    assert "index.html and 3 pages of single dialogues" in capsys.readouterr().out
    assert len(list((tmp_path / "pages" / "pages").iterdir())) == 3
    assert "run <code>show</code> with <code>--decode</code>" in (tmp_path / "pages" / "index.html").read_text()


def test_what_is_to_be_shown_must_be_said(file, tmp_path):
    with pytest.raises(RecipeError, match="give the id of a dialogue, or --html FOLDER"):
        showing.run([str(file)])
    with pytest.raises(RecipeError, match="name a folder, or give an id as well"):
        showing.run([str(file), "--html", str(tmp_path / "page.html")])

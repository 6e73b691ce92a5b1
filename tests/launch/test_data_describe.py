"""`data describe` on real clips: tables, JSON and a page; what stages would find is what they count."""

import json
import shutil

import pytest

from epo.data.dialogue import SPLITS, read_dialogues
from epo.data.replies import replies_of
from epo.data.selection import clips_of_split, labelled_replies, replies_of_split, with_history
from epo.preferences.gold import collect_gold
from launch.data_verbs import describing
from launch.planning.stage_uses import USES, count_uses


def test_the_uses_are_what_the_stages_count(corpus):
    dialogues = list(read_dialogues(corpus / "dialogues.jsonl"))
    for split in SPLITS:
        ours = [dialogue for dialogue in dialogues if dialogue.split == split]
        uses = {key: sum(count_uses(dialogue).get(key, 0) for dialogue in ours) for key in USES}
        examples = replies_of_split(dialogues, split, "f", "all")
        assert uses == {
            "extractor": len(clips_of_split(dialogues, split, "f")),
            "sft": len(examples),
            "sft_last": len(replies_of(ours, "last")),
            "sft_clip": len(replies_of(ours, "all", require_clip=True)),
            "compressor": len(with_history(examples, split, "f")),
            "pairs": len(collect_gold(dialogues, split, "all", False)),
            "pairs_clip": len(collect_gold(dialogues, split, "all", True)),
            "evaluate": len(labelled_replies(examples, split, "f", 1)),
        }


def test_describe_prints_tables_json_and_a_page(corpus, tmp_path, capsys):
    corpus = shutil.copytree(corpus, tmp_path / "corpus")  # decoding leaves a record beside the dialogues
    page = tmp_path / "pages" / "page.html"
    describing.run([str(corpus), "--decode", "--workers", "1", "--html", str(page)])
    printed = capsys.readouterr().out
    assert "Clips, decoded as training does" in printed and "loudness, dBFS" in printed
    html = page.read_text()
    assert html.count("<figure>") == 6 and "Loudness in dBFS" in html
    assert "http" not in html.replace('xmlns="http', "")
    describing.run([str(corpus), "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["splits"]["train"]["dialogues"] == 8 and row["clips"] == {}


def test_words_of_the_corpus_cannot_write_into_the_page(tmp_path, capsys):
    evil = "<script>alert(1)</script>"
    turns = [{"speaker": "user", "text": f"你好 你好 你好 你好吗 {evil[:3]}", "name": evil}]
    rows = [{"id": evil, "group": evil, "split": split, "turns": turns, "facts": {"0": [evil]}} for split in SPLITS[:1]]
    rows.append({"id": "b", "group": evil, "split": "test", "turns": turns})
    path = tmp_path / "dialogues.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    describing.run([str(path), "--html", str(tmp_path / "page.html")])
    html = (tmp_path / "page.html").read_text()
    assert "<script" not in html and "&lt;script&gt;" in html


def test_faulty_and_silent_clips_are_named(tmp_path, capsys):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    (tmp_path / "empty.wav").touch()
    turns = [{"speaker": "user", "text": "Hi", "clip": {"audio": name}} for name in ("silent.wav", "empty.wav")]
    (tmp_path / "dialogues.jsonl").write_text(json.dumps({"id": "a", "turns": turns}) + "\n")
    describing.run([str(tmp_path), "--decode", "--workers", "1"])
    printed = capsys.readouterr().out
    assert "1 no split clips are silent; such as a turn 0" in printed
    assert "1 no split clips are faulty; such as a turn 1: " in printed and "empty.wav: the file is empty" in printed


@pytest.mark.slow
def test_150_000_utterances_are_described_in_under_a_minute(tmp_path):
    import time

    turns = [
        {"speaker": ("user", "assistant")[i % 2], "text": f"This is utterance {i}, isn’t it?", "emotion": "sad"}
        for i in range(10)
    ]
    with (tmp_path / "dialogues.jsonl").open("w") as file:
        for i in range(15_000):
            file.write(json.dumps({"id": str(i), "split": SPLITS[i % 3], "turns": turns}) + "\n")
    start = time.process_time()
    describing.run([str(tmp_path)])
    assert time.process_time() - start < 60  # twice what was seen, for slower machines

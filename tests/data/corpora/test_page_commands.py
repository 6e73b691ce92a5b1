"""The commands of docs/corpora.md that read a known corpus as a table give what its own name gives."""

import json
import re
import shlex
from pathlib import Path

import pytest

from epo.data.corpora.listing import corpora
from epo.data.corpora.table_options import TableOptions
from launch.data_verbs import importing
from launch.recipe import read_recipe

PAGE = (Path(__file__).parents[3] / "docs" / "corpora.md").read_text(encoding="utf-8")
VALUES = re.search(r"```yaml\n(statement:\n.*?)```", PAGE, re.DOTALL)
UTTERANCES = [
    {"utterance_id": "s01_e02_c01_u010", "speakers": ["Ann"], "transcript": "Oh!", "emotion": "Joyful"},
    {"utterance_id": "s01_e02_c01_u002", "speakers": ["Bob"], "transcript": "Hm.", "emotion": "Peaceful"},
]
EMORYNLP = {"episodes": [{"episode_id": "s01_e02", "scenes": [{"scene_id": "s01_e02_c01", "utterances": UTTERANCES}]}]}
CPED = (
    "TV_ID,Dialogue_ID,Utterance_ID,Speaker,Scene,Emotion,DA,Utterance\n"
    "32,32_000,32_000_001,乙,car,depress,answer,好\n32,32_000,32_000_000,甲,car,astonished,question,怎么了\n"
)
EMOTIONTALK = (
    "name,emotion,chinese\n"
    "G00009/G00009_42/G00009_42_14/G00009_42_14_003,neutral,[over/]还给他点[/over]饭。\n"
    "G00009/G00009_42/G00009_42_12/G00009_42_12_002,surprised,是吗？\n"
)
TURNS = [
    {"turn": 2, "speaker": "B", "utterance": "No .", "emotion": "sadness"},
    {"turn": 1, "speaker": "A", "utterance": "Hey .", "emotion": "neutral"},
]
FILES = {
    "emorynlp": {f"json/emotion-detection-{own}.json": json.dumps(EMORYNLP) for own in ("trn", "dev", "tst")},
    "cped": {f"data/CPED/{own}_split.csv": CPED for own in ("train", "valid", "test")},
    "emotiontalk": {"transcription.csv": EMOTIONTALK, "wav/G00009/G00009_42/G00009_42_14/G00009_42_14_003.wav": None},
    "reccon": {
        f"data/original_annotation/dailydialog_{own}.json": json.dumps({"tr_1": [TURNS]})
        for own in ("train", "valid", "test")
    },
    "ravdess": {"Actor_12/03-01-06-01-02-01-12.wav": None, "Actor_01/03-01-08-02-01-01-01.wav": None},
    "crema_d": {"AudioWAV/1001_DFA_ANG_XX.wav": None},
    "emodb": {"wav/03a01Fa.wav": None, "wav/16b10Wb.wav": None},
}
NAMES_OF_ROOTS = {"emorynlp": "json", "cped": "data/CPED", "reccon": "data/original_annotation"}


def table_command(name):
    """The first command of the page that reads the corpus as a table."""
    commands = re.findall(
        r"^python launch/data\.py import (--corpus table .*)$", PAGE.replace("\\\n", " "), re.MULTILINE
    )
    return shlex.split(next(command for command in commands if f"runs/{name}/corpus" in command))


@pytest.mark.parametrize("name", FILES)
def test_a_corpus_by_its_name_and_by_its_columns(name, tmp_path, monkeypatch, make_wav, import_from):
    root = tmp_path / "corpus"
    for path, content in FILES[name].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            make_wav(root / path)
        else:
            (root / path).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("values.yaml").write_text(VALUES[1])
    argv = ["--output_dir" if part == "--out" else part for part in table_command(name)]
    (options,) = (recipe for recipe in read_recipe(importing.RECIPES, argv) if isinstance(recipe, TableOptions))
    by_columns = import_from(options.table().read, root / NAMES_OF_ROOTS.get(name, ""), out="columns")
    by_name = import_from(corpora()[name].reader(), root, out="name")
    assert [facts(d, name) for d in by_columns.dialogues] == [facts(d, name) for d in by_name.dialogues]
    assert by_columns.card["clips"] == by_name.card["clips"]
    assert len(by_name.dialogues) == {"emotiontalk": 1, "crema_d": 1, "ravdess": 2, "emodb": 2}.get(name, 3)


def facts(dialogue, name):
    """What both must agree in; the codes of CREMA-D's and EMO-DB's sentences stay codes in the short commands."""
    group = None if dialogue.group is None else dialogue.group.partition("-")[2]
    turns = [
        (turn.speaker, turn.name, None if name in ("crema_d", "emodb") else turn.text, turn.emotion, turn.strategy)
        for turn in dialogue.turns
    ]
    return dialogue.language, group, turns


def test_emorynlp_as_it_comes_with_meld(tmp_path, import_from):
    header = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time\n"
    rows = (
        "Thank you.,['Joey Tribbiani'],Neutral,1,2,1,15,00:00:05.171,00:00:07.423\n"
        "\"Aww, thank you.\",['Rachel Green'],Scared,1,1,1,15,00:00:03.795,00:00:05.004\n"
        "Hey.,['Ross Geller'],Mad,1,1,1,16,00:00:03.795,00:00:05.004\n"
    )
    for own in ("train", "dev", "test"):
        (tmp_path / f"emorynlp_{own}_final.csv").write_text(header + rows)
    argv = next(shlex.split(line) for line in PAGE.replace("\\\n", " ").splitlines() if "emorynlp_train_final" in line)
    argv = ["--output_dir" if part == "--out" else part for part in argv[3:]]
    (options,) = (recipe for recipe in read_recipe(importing.RECIPES, argv) if isinstance(recipe, TableOptions))
    imported = import_from(options.table().read, tmp_path)
    assert [len(dialogue.turns) for dialogue in imported.dialogues] == [2, 1] * 3
    first = imported.dialogues[0]
    assert [(turn.name, turn.emotion) for turn in first.turns] == [
        ("Rachel Green", "fearful"),
        ("Joey Tribbiani", "neutral"),
    ]
    assert (first.split, first.group) == ("train", "table-1_15")

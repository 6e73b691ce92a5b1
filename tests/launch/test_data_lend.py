"""`data lend-clips` as a user and a pipeline run it: who lends what to whom, what is counted, what is refused."""

import contextlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from launch import pipeline
from epo.data.checking import check_file
from epo.data.dialogue import SPLITS, DataError, read_dialogues
from launch.data_verbs import lending
from launch.planning.pipeline_recipe import Stage
from launch.planning.preflight import check_pipeline
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
EMOTIONS = ("happy", "sad", "angry")


@pytest.fixture(autouse=True)
def tracked(tmp_path, monkeypatch):
    """Work in an empty folder; a store of MLflow takes a second, so all but one test note what would be logged."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    seen = {}

    @contextlib.contextmanager
    def record(stage, pipeline, experiment, out, keys):
        seen["run"] = (stage, pipeline, experiment)
        yield SimpleNamespace(log_metrics=seen.update, log_artifact=lambda path: seen.update(card=path.name))

    monkeypatch.setattr(lending, "open_run", record)
    return seen


def write(name, rows):
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "dialogues.jsonl")


def write_voices(name="voices", people=6, emotions=EMOTIONS, takes=2, split=None, prefix="p"):
    """One-turn dialogues: each person says each emotion a few times."""
    rows = []
    Path(name, "media").mkdir(parents=True)
    for person in range(people):
        for emotion in emotions:
            for take in range(takes):
                file = f"media/{prefix}{person}-{emotion}-{take}.wav"
                noise = np.random.default_rng(len(rows)).normal(scale=0.1, size=1600)
                soundfile.write(Path(name, file), noise, 8000)
                turn = {"speaker": "user", "text": "So.", "emotion": emotion, "clip": {"audio": file, "end_s": 0.1}}
                row = {"id": file, "group": f"{prefix}{person}", "turns": [turn]}
                rows.append(row if split is None else row | {"split": split[person]})
    (Path(name) / "card.json").write_text(json.dumps({"licence": "CC0"}))
    return write(name, rows)


def talk(index, *emotions, split=None):
    turns = []
    for emotion in emotions:
        turns.append({"speaker": "user", "text": f"I say {index}."} | ({} if emotion is None else {"emotion": emotion}))
        turns.append({"speaker": "assistant", "text": "Oh.", "emotion": "neutral"})
    return {
        "id": f"d{index}",
        "split": SPLITS[(0, 0, 0, 0, 1, 2)[index % 6]] if split is None else split,
        "turns": turns,
    }


def write_text(count=24, **more):
    rows = [talk(i, *(EMOTIONS[(i + n) % 3] for n in range(1 + i % 3))) for i in range(count)]
    return write(more.get("name", "text"), rows)


def lend(data, voices, out="out", *more):
    voices = [voices] if isinstance(voices, str) else voices
    lending.run(["--data", data, "--voices", *voices, "--output_dir", out, *more])
    return list(read_dialogues(f"{out}/dialogues.jsonl")), json.loads(Path(out, "card.json").read_text())


def heard(dialogues):
    """(split, person, emotion) of each lent clip, by dialogue."""
    return {
        d.id: [
            (d.split, *Path(t.clip.audio).stem.split("-")[:2], Path(t.clip.audio).name)
            for t in d.turns
            if t.clip is not None
        ]
        for d in dialogues
    }


def test_each_user_turn_gets_its_emotion_by_one_voice_of_its_split(tracked):
    dialogues, card = lend(write_text(), write_voices())
    people = {split: set() for split in SPLITS}
    for d in dialogues:
        for turn in d.turns:
            assert (turn.clip is not None) == (turn.speaker == "user")
            if turn.clip is not None:
                assert Path(turn.clip.audio).name.split("-")[1] == turn.emotion and turn.clip.end_s == 0.1
        of_dialogue = {person for _, person, *_ in heard([d])[d.id]}
        assert len(of_dialogue) == 1
        people[d.split] |= of_dialogue
    assert not people["train"] & people["validation"] and not people["train"] & people["test"]
    assert not people["validation"] & people["test"]
    assert check_file(Path("out/dialogues.jsonl")).faults == []
    lent = sum(len(clips) for clips in heard(dialogues).values())
    assert sum(sum(card["lent"][split].values()) for split in SPLITS) == lent == card["clips"]["audio"] == 48
    assert {split: len(names) for split, names in card["speakers"].items()} == {"train": 4, "validation": 1, "test": 1}
    assert "belongs to another person" in card["about"] and card["licence"]["voices/dialogues.jsonl"] == "CC0"
    assert tracked["run"][0] == "lend-clips" and tracked["card"] == "card.json" and tracked["lent/test"] == 12
    first = next(path for path in Path("out/media").rglob("*.wav"))
    assert os.path.samefile(first, Path("voices/media") / first.name)


def test_no_clip_comes_twice_in_a_dialogue_while_others_are_left():
    rows = [talk(i, *["sad"] * 5) for i in range(6)]
    dialogues, card = lend(write("text", rows), write_voices(takes=3))
    for clips in heard(dialogues).values():
        names = [name for *_, name in clips]
        assert len(set(names[:3])) == 3 and len(names) == 5 and len(set(names[3:])) == 2
    assert card["lent_again"] == {"train": 8, "validation": 2, "test": 2}


def test_a_dialogue_gets_the_same_whatever_stands_beside_it():
    voices, rows = write_voices(), [talk(i, *EMOTIONS) for i in range(24)]
    whole, _ = lend(write("text", rows), voices, "whole")
    again, _ = lend(write("text", rows[::-1]), voices, "again")
    grown, _ = lend(write("more", [*rows, *(talk(i, "sad") for i in range(100, 103))]), voices, "grown")
    assert heard(whole) == heard(again)
    assert {key: clips for key, clips in heard(grown).items() if key in heard(whole)} == heard(whole)


def test_speakers_keep_their_splits_when_the_dialogues_grow_in_place(capsys):
    """By proportion validation would get a speaker from train; nobody moves."""
    voices, rows = write_voices(), [talk(i, "sad") for i in range(12)]
    before, _ = lend(write("text", rows), voices)
    rows += [talk(i, "sad", split="validation") for i in range(100, 130)]
    after, card = lend(write("text", rows), voices)
    assert {key: clips for key, clips in heard(after).items() if key in heard(before)} == heard(before)
    assert len(card["speakers"]["validation"]) == 1
    assert "data: text/dialogues.jsonl has changed; writing it anew" in capsys.readouterr().out
    Path("out/speakers.json").write_text("[]")
    with pytest.raises(DataError, match="speakers.json: no record of speakers"):
        lend(data_changed(rows), voices)


def data_changed(rows):
    return write("text", [*rows, talk(200, "sad")])


def test_what_has_no_voice_or_no_emotion_stays_and_is_counted(capsys):
    rows = [talk(i, "surprised", "sad", None) for i in range(6)]
    rows[0]["turns"][0]["clip"] = {"audio": "own.wav"}
    Path("text").mkdir()
    soundfile.write("text/own.wav", np.zeros(800), 8000)
    rows.append({"id": "bare", "turns": [{"speaker": "user", "text": "Hm."}, {"speaker": "assistant", "text": "Oh."}]})
    dialogues, card = lend(write("text", rows), write_voices())
    assert [turn.clip is not None for turn in dialogues[1].turns[::2]] == [False, True, False]
    assert dialogues[0].turns[0].clip.audio.name == "own.wav" and dialogues[0].turns[0].clip.audio.is_file()
    assert card["left_without_voice"] == {
        "train": {"surprised": 3},
        "validation": {"surprised": 1},
        "test": {"surprised": 1},
    }
    assert card["unlabelled"] == {"train": 4, "validation": 1, "test": 1}
    assert card["own_clip"] == {"train": 1, "validation": 0, "test": 0}
    output = capsys.readouterr().out
    assert "left without, for no voice of the dialogue's split has the emotion: 5 surprised" in output
    assert "user turns with a clip of their own, kept: 1" in output


def test_the_voice_is_one_that_can_speak_most_of_the_dialogue():
    voices = [write_voices("calm", 3, ("sad",)), write_voices("rich", 3, ("sad", "happy"), prefix="q")]
    dialogues, card = lend(write("text", [talk(i, "sad", "happy") for i in range(12)]), voices)
    assert {person[0] for clips in heard(dialogues).values() for _, person, *_ in clips} == {"q"}
    assert card["left_without_voice"] == {split: {} for split in SPLITS}
    only_sad, _ = lend(write("text", [talk(i, "sad") for i in range(60)]), voices, "sad")
    assert {person[0] for clips in heard(only_sad).values() for _, person, *_ in clips} == {"p", "q"}


def test_corpora_of_one_name_do_not_mix_their_files():
    """Both lie in a folder `corpus` and have a clip of the same name."""
    for parent in ("a", "b"):
        Path(parent).mkdir()
    voices = [write_voices(f"{parent}/corpus", 3, EMOTIONS, 1) for parent in ("a", "b")]
    soundfile.write("b/corpus/media/p0-sad-0.wav", np.zeros(900), 8000)
    rows = [json.loads(line) | {"group": "b" + line[8:30]} for line in Path(voices[1]).read_text().splitlines()]
    write("b/corpus", rows)
    dialogues, _ = lend(write("text", [talk(i, "sad") for i in range(60)]), voices)
    for d in dialogues:
        (clip,) = (turn.clip.audio for turn in d.turns if turn.clip is not None)
        source = Path("b" if "corpus-2" in clip.parts else "a", "corpus/media", clip.name)
        assert clip.read_bytes() == source.read_bytes()


MISTAKES = {
    "voices: voices is a folder; name the dialogues.jsonl in it": {"voices": "voices"},
    "output_dir: text is the folder of text/dialogues.jsonl": {"output_dir": "text"},
    "output_dir: voices is the folder of voices/dialogues.jsonl": {"output_dir": "voices"},
    "gone/dialogues.jsonl: no such file": {"data": "gone/dialogues.jsonl"},
    "text/dialogues.jsonl: no turn has both an emotion and a clip": {"voices": "text/dialogues.jsonl"},
    "no user turn has an emotion and lacks a clip": {
        "data": "voices/dialogues.jsonl",
        "voices": "more/dialogues.jsonl",
    },
    "dialogue 'd0' has no split": {"data": "bare/dialogues.jsonl"},
    "voice_splits": {"voice_splits": "mine"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_refused_in_one_line(message):
    write_text(), write_voices(), write_voices("more")
    write("bare", [{key: value for key, value in talk(0, "sad").items() if key != "split"}])
    keys = {"data": "text/dialogues.jsonl", "voices": "voices/dialogues.jsonl", "output_dir": "out"} | MISTAKES[message]
    with pytest.raises((RecipeError, DataError), match=message) as caught:
        lending.run([part for key, value in keys.items() for part in (f"--{key}", value)])
    assert "\n" not in str(caught.value)
    assert not Path("out/dialogues.jsonl").exists()


def test_voices_named_twice_are_refused():
    voices = write_voices()
    with pytest.raises(RecipeError, match="is named twice"):
        lend(write_text(), [voices, f"./{voices}"])


CHANGES = {
    "data": "other/dialogues.jsonl",
    "voices": "more/dialogues.jsonl",
    "voice_splits": "drawn",
    "seed": "1",
    "output_dir": "elsewhere",
    "pipeline": "another",
    "experiment": "another",
}
ELSEWHERE = {"run": "test_run_names.py", "fresh": "test_stage_folder.py"}


def test_the_table_names_every_key():
    import dataclasses

    assert {f.name for f in dataclasses.fields(lending.LendRecipe)} == CHANGES.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_every_key_has_an_effect(key, tracked):
    write_text(), write_text(18, name="other"), write_voices("more", 4, prefix="q")
    write_voices(split=["test", "validation", "train", "train", "train", "train"])

    def outcome(out, **changes):
        keys = {"data": "text/dialogues.jsonl", "voices": "voices/dialogues.jsonl", "output_dir": out} | changes
        lending.run([part for key, value in keys.items() for part in (f"--{key}", value)])
        written = [path for path in map(Path, ("out", "elsewhere", "out2")) if (path / "dialogues.jsonl").is_file()]
        return written[-1].name.rstrip("2"), (written[-1] / "dialogues.jsonl").read_text(), tracked["run"]

    before = outcome("out")
    after = outcome(**{"out": "out2", key: CHANGES[key]} if key != "output_dir" else {"out": CHANGES[key]})
    assert before != after


def test_a_changed_recording_is_seen_and_an_unchanged_run_is_passed_over(capsys):
    data, voices = write_text(), write_voices()
    lend(data, voices)
    lend(data, voices)
    assert "already done, and nothing it was made from has changed" in capsys.readouterr().out
    soundfile.write("voices/media/p0-sad-0.wav", np.zeros(1700), 8000)
    lend(data, voices)
    assert "a recording named in voices/dialogues.jsonl has changed" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_a_stage_of_a_pipeline(capfd):
    for name in ("launch", "recipes"):
        Path(name).symlink_to(ROOT / name)
    write_text(name="source"), write_voices()
    recipes = {
        "words": {"corpus": "jsonl", "root": "source", "output_dir": "${run}/words"},
        "clips": {"corpus": "jsonl", "root": "voices", "output_dir": "${run}/clips"},
        "corpus": {
            "data": "${run}/words/dialogues.jsonl",
            "voices": ["${run}/clips/dialogues.jsonl"],
            "output_dir": "${run}/corpus",
        },
    }
    rows = []
    for name, recipe in recipes.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        verb = "import" if name != "corpus" else "lend-clips"
        rows.append({"name": name, "script": "launch/data.py", "verb": verb, "launcher": "python"})
    Path("run.yaml").write_text("run: runs/mine\n")
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": rows}))
    for _ in range(2):
        pipeline.run(["--config", "pipeline.yaml"])
    output = capfd.readouterr().out
    assert "launch/data.py lend-clips --config corpus.yaml" in output and "[3/3] corpus: already done" in output
    assert (
        sum(turn.clip is not None for d in read_dialogues("runs/mine/corpus/dialogues.jsonl") for turn in d.turns) > 40
    )
    pipeline.run(["--config", "pipeline.yaml", "--run", "runs/yours", "--only", "words"])
    assert Path("runs/yours/words/dialogues.jsonl").is_file()


def test_the_check_before_a_pipeline_counts_and_refuses():
    for name in ("launch", "recipes"):
        Path(name).symlink_to(ROOT / name)
    write_text(), write_voices()

    def check(**keys):
        recipe = {"data": "text/dialogues.jsonl", "voices": ["voices/dialogues.jsonl"], "output_dir": "out"} | keys
        Path("lend.yaml").write_text(yaml.safe_dump(recipe))
        (found,) = check_pipeline([Stage("lend", "launch/data.py", "lend.yaml", "python", None, "lend-clips")])
        return found

    found = check()
    assert (found.training, found.validation, found.test, found.errors) == (28, 8, 12, [])
    assert check(voices=["gone.jsonl"]).errors[0].startswith("voices: gone.jsonl: no such file")
    assert "nothing to lend" in check(data="voices/dialogues.jsonl", voices=["text/dialogues.jsonl"]).errors[0]
    assert "is the folder of" in check(output_dir="text").errors[0]

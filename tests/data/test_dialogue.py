"""The interchange format: what is written is read back, and each fault names its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo.data.dialogue import Clip, DataError, Dialogue, Turn, parse_dialogue, read_dialogues, write_dialogues

TURNS = [{"speaker": "user", "text": "Hello"}, {"speaker": "assistant", "text": "Hi", "emotion": "happy"}]


def write_rows(folder: Path, *rows: object) -> Path:
    path = folder / "dialogues.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def fault(folder: Path, **changes: object) -> str:
    """Write one row with some keys changed and return the message of its fault."""
    path = write_rows(folder, {"id": "d", "turns": TURNS} | changes)
    with pytest.raises(DataError) as caught:
        list(read_dialogues(path))
    message = str(caught.value)
    assert message.startswith(f"{path}:1: ")
    return message


def clip_fault(folder: Path, clip: object) -> str:
    return fault(folder, turns=[{"speaker": "user", "text": "Hello", "clip": clip}])


def test_what_is_written_is_read_back(tmp_path):
    (tmp_path / "media").mkdir()
    audio, video = tmp_path / "media" / "a.wav", tmp_path / "media" / "v.mp4"
    audio.touch(), video.touch()
    dialogues = [
        Dialogue(
            id="\u00e9",
            language="de",
            split="test",
            facts={1: ("Mira", "Oslo")},
            group="session 1",
            background="Mira moved away.",
            personas={"user": ("I like maps.", "I am ten."), "assistant": ("I am patient.",)},
            turns=(
                Turn("user", "Gr\u00fc\u00df dich \u2014 \u201cna\u201d?", "sad", Clip(audio, video, 0.5, 2.0)),
                Turn(
                    "assistant",
                    "So it was Mira, in Oslo.",
                    None,
                    None,
                    "Ada",
                    "Restatement",
                    "Calm and warm.",
                    vad=(0.5, -0.25, 1.0),
                ),
            ),
        ),
        Dialogue(id="2", turns=(Turn("user", "Hello", clip=Clip(video=video)),)),
    ]
    path = tmp_path / "dialogues.jsonl"
    assert write_dialogues(path, dialogues) == 2
    assert list(read_dialogues(path)) == dialogues
    assert json.loads(path.read_text().splitlines()[0])["turns"][0]["clip"]["audio"] == "media/a.wav"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "dialogues.jsonl"
    write_dialogues(path, [Dialogue("old", (Turn("user", "Hello"),))])
    outside = Dialogue("new", (Turn("user", "Hello", clip=Clip(audio=tmp_path.parent / "a.wav")),))
    with pytest.raises(DataError, match="dialogue 'new'.*lies outside"):
        write_dialogues(path, [outside])
    assert [dialogue.id for dialogue in read_dialogues(path)] == ["old"]


def test_reading_is_lazy(tmp_path):
    path = write_rows(tmp_path, {"id": "good", "turns": TURNS}, {"id": "bad"})
    dialogues = read_dialogues(path)
    assert next(dialogues).id == "good"
    with pytest.raises(DataError, match=":2: 'turns' must be a non-empty list"):
        next(dialogues)


def test_outer_blanks_of_a_text_go(tmp_path):
    path = write_rows(tmp_path, {"id": "d", "turns": [{"speaker": "user", "text": "  Hello\n"}]})
    assert next(read_dialogues(path)).turns[0].text == "Hello"


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="no such file; write it with `python launch/data.py import`"):
        list(read_dialogues(tmp_path / "dialogues.jsonl"))


def test_a_repeated_id_is_named(tmp_path):
    path = write_rows(tmp_path, {"id": "d", "turns": TURNS}, {"id": "d", "turns": TURNS})
    with pytest.raises(DataError, match=":2: dialogue id 'd' appears twice"):
        list(read_dialogues(path))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{'id': 1}\n", "not JSON"),
        (b"\xff\xfe\n", "is UTF-16, want UTF-8"),
        (b"{\x92}\n", "not UTF-8"),
        (b"[" * 100000, "not JSON"),
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path, line, words):
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(line)
    with pytest.raises(DataError, match=f":1: {words}"):
        list(read_dialogues(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, "'id' is empty"),
        ({"turns": []}, "'turns' must be a non-empty list"),
        ({"turns": "Hello"}, "'turns' must be a non-empty list"),
        ({"group": ""}, "'group' is empty; write the words or leave it out"),
        ({"background": 3}, "'background' must be a non-empty string"),
        ({"personas": ["I like maps."]}, "'personas' must map 'user' or 'assistant' to a list"),
        ({"personas": {"bot": []}}, "'personas' must map 'user' or 'assistant' to a list"),
        ({"personas": {"user": "I like maps."}}, "'personas' of the user must be a list of non-empty strings"),
        ({"turns": [{"speaker": "user", "text": "x", "labelled_by": "m"}]}, "turn 0: 'labelled_by' names who gave the"),
        (
            {"turns": [TURNS[0] | {"vad": [0.1, 0.2]}]},
            "turn 0: 'vad' is [0.1, 0.2], want [valence, arousal, dominance]",
        ),
        ({"turns": [TURNS[0] | {"vad": [0.1, 0.2, 1.5]}]}, "each from -1 to 1; map the corpus's scale there"),
        ({"turns": [TURNS[0] | {"vad": [0.1, 10**400, 0]}]}, "'vad' is"),
        ({"turns": [TURNS[0] | {"vad": [0.1, True, 0]}]}, "'vad' is [0.1, True, 0]"),
        ({"turns": [TURNS[0] | {"vad": "0.1"}]}, "'vad' is '0.1', want"),
        ({"turns": [TURNS[1] | {"labelled_by": ""}]}, "turn 0: 'labelled_by' is empty"),
        ({"turns": [TURNS[0] | {"strategy": 1}]}, "turn 0: 'strategy' must be a non-empty string"),
        ({"turns": [3]}, "turn 0: want an object with 'speaker' and 'text'"),
        ({"turns": [TURNS[0], {"speaker": "bot", "text": "Hi"}]}, "turn 1: 'speaker' is 'bot'"),
        ({"turns": [{"speaker": "user", "text": " "}]}, "turn 0: 'text' is empty"),
        ({"turns": [TURNS[0] | {"emotion": "joy"}]}, "turn 0: unknown emotion 'joy'; want one of angry"),
        ({"turns": [TURNS[0] | {"emotion": 3}]}, "turn 0: 'emotion' must be a string"),
        ({"turns": [TURNS[0] | {"mood": "sad"}]}, "turn 0: unknown key 'mood'; known are clip, description, emotion"),
        ({"split": "dev"}, "'split' is 'dev', want one of train, validation, test"),
        ({"language": 1}, "'language' must be a non-empty string"),
        ({"speakers": 2}, "unknown key 'speakers'; known are background, facts, group, id"),
        ({"facts": {"2": ["Mira"]}}, "'facts' names turn '2', but there are 2 turns"),
        ({"facts": {"1": "Mira"}}, "must be a list of non-empty strings"),
        ({"facts": ["Mira"]}, "'facts' must map a turn number to a list"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, changes, words):
    assert words in fault(tmp_path, **changes)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("a.wav", "'clip' must be an object"),
        ({}, "'clip' has neither 'audio' nor 'video'"),
        ({"audio": "missing.wav"}, "turn 0: audio: 'missing.wav' does not exist"),
        ({"audio": 3}, "turn 0: audio: must be a relative path"),
        ({"audio": "a\0.wav"}, "must be a relative path"),
        ({"video": "a.wav", "start_s": -1}, "'start_s' is -1, want seconds >= 0"),
        ({"audio": "a.wav", "start_s": True}, "'start_s' is True"),
        ({"audio": "a.wav", "start_s": 2, "end_s": 1}, "'end_s' is 1, want > 'start_s'"),
        ({"audio": "a.wav", "end_s": float("nan")}, "'end_s' is nan"),
        ({"sound": "a.wav"}, "unknown key 'sound'"),
    ],
)
def test_a_wrong_clip_is_named(tmp_path, clip, words):
    (tmp_path / "a.wav").touch()
    assert words in clip_fault(tmp_path, clip)


def test_media_may_not_leave_the_folder(tmp_path):
    (tmp_path / "outside.wav").touch()
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    for path in ("../outside.wav", str(tmp_path / "outside.wav"), "link.wav", str(folder / "link.wav")):
        assert "leaves the folder of the dialogues file" in clip_fault(folder, {"audio": path})


def test_a_link_within_the_folder_is_followed(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    path = write_rows(tmp_path, {"id": "d", "turns": [TURNS[0] | {"clip": {"audio": "link.wav"}}]})
    clip = next(read_dialogues(path)).turns[0].clip
    assert clip is not None and clip.audio == (tmp_path / "a.wav").resolve()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
nearly_turns = st.fixed_dictionaries(
    {"speaker": st.sampled_from(["user", "assistant", 1]), "text": st.text(max_size=5)},
    optional={
        "emotion": json_values,
        "clip": st.dictionaries(st.sampled_from(["audio", "video", "end_s"]), json_values),
    },
)
nearly_rows = st.fixed_dictionaries(
    {"id": st.text(max_size=3), "turns": st.lists(nearly_turns | json_values, max_size=3)},
    optional={"split": json_values, "facts": json_values, "language": json_values},
)


@settings(max_examples=150, deadline=None)
@given(row=nearly_rows | json_values)
def test_any_json_is_a_dialogue_or_a_data_error(row):
    try:
        dialogue = parse_dialogue(row, Path("/nonexistent"), "here:1")
    except DataError as error:
        assert str(error).startswith("here:1: ")
    else:
        assert isinstance(dialogue, Dialogue) and dialogue.turns


@settings(max_examples=100, deadline=None)
@given(line=st.binary(max_size=60))
def test_any_bytes_are_dialogues_or_a_data_error(line, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(line)
    try:
        list(read_dialogues(path))
    except DataError as error:
        assert str(error).startswith(f"{path}:")

"""The table reader: columns by name, every kind of file, order, roles, clips, and what it refuses."""

import gzip
import json
from pathlib import Path

import pytest

from epo.data.corpora.meld import read_meld
from epo.data.corpora.table_options import TableOptions, read_table
from epo.data.dialogue import DataError

HEADER = "Dialogue_ID,Utterance_ID,Speaker,Utterance,Emotion"
ROWS = "0,0,Ann,Hello.,joy\n0,1,Bob,Go away.,anger\n1,0,Ann,Well.,neutral\n"
COLUMNS = "dialogue=Dialogue_ID,order=Utterance_ID,speaker=Speaker,text=Utterance,emotion=Emotion"
MELD = {"columns": COLUMNS, "labels": "meld"}


@pytest.fixture
def import_table(tmp_path, import_from):
    """Write a table and import it with options."""

    def run(content: str | bytes, name: str = "talk.csv", on_error="stop", **options):
        root = tmp_path / "root"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)

        def read(folder, media, report):
            return read_table(folder, media, report, TableOptions(**(MELD | options)))

        return import_from(read, root, on_error)

    return run


def said(imported):
    """Each dialogue as (role, name, text, emotion)."""
    return [[(t.speaker, t.name, t.text, t.emotion) for t in d.turns] for d in imported.dialogues]


WHOLE = [
    [("user", "Ann", "Hello.", "happy"), ("assistant", "Bob", "Go away.", "angry")],
    [("user", "Ann", "Well.", "neutral")],
]


def test_rows_become_dialogues(import_table):
    imported = import_table(f"{HEADER}\n{ROWS}")
    assert said(imported) == WHOLE
    assert [dialogue.id for dialogue in imported.dialogues] == ["table-talk-0", "table-talk-1"]
    assert not imported.report.faults and not imported.report.notes


def _as_json_rows():
    names = HEADER.split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in ROWS.splitlines()]


SHAPES = {
    "with a byte order mark and CRLF": ("talk.csv", f"\ufeff{HEADER}\n{ROWS}".replace("\n", "\r\n").encode()),
    "semicolons": ("talk.csv", f"{HEADER}\n{ROWS}".replace(",", ";")),
    "tabs": ("talk.tsv", f"{HEADER}\n{ROWS}".replace(",", "\t")),
    "tabs in a .csv": ("talk.csv", f"{HEADER}\n{ROWS}".replace(",", "\t")),
    "other case and blanks in the header": ("talk.csv", f" {HEADER.upper()} \n{ROWS}".replace(",", " ,", 1)),
    "lines of nothing": ("talk.csv", f"\n{HEADER}\n{ROWS}\n,,,,\n\n"),
    "delimiters at the ends of lines": ("talk.csv", HEADER + "\n" + ROWS.replace("\n", ",,\n")),
    "Excel's hint": ("talk.csv", f"sep=;\r\n{HEADER}\n{ROWS}".replace(",", ";")),
    "gzipped without saying so": ("talk.csv", gzip.compress(f"{HEADER}\n{ROWS}".encode())),
    "gzipped": ("talk.csv.gz", gzip.compress(f"{HEADER}\n{ROWS}".encode())),
    "as Excel writes Unicode text": ("talk.tsv", f"{HEADER}\n{ROWS}".replace(",", "\t").encode("utf-16")),
    "an index column": ("talk.csv", "".join(f",{line}\n" for line in f"{HEADER}\n{ROWS}".splitlines())),
    "JSONL": ("talk.jsonl", "\n".join(json.dumps(row) for row in _as_json_rows()) + "\n\n"),
    "gzipped JSONL": ("talk.jsonl.gz", gzip.compress("\n".join(map(json.dumps, _as_json_rows())).encode())),
    "JSON": ("talk.json", json.dumps(_as_json_rows(), indent=1)),
    "numbers": ("talk.jsonl", "\n".join(
        json.dumps(row | {"Dialogue_ID": float(row["Dialogue_ID"]), "Utterance_ID": int(row["Utterance_ID"])})
        for row in _as_json_rows())),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same(shape, import_table):
    name, content = SHAPES[shape]
    assert said(import_table(content, name)) == WHOLE


def test_a_dialogue_that_comes_back_later_is_one(import_table):
    rows = "0,0,Ann,A.,joy\n1,0,Ann,C.,joy\n0,1,Bob,B.,joy\n"
    imported = import_table(f"{HEADER}\n{rows}")
    assert [[turn.text for turn in dialogue.turns] for dialogue in imported.dialogues] == [["A.", "B."], ["C."]]


@pytest.mark.parametrize(
    "places",
    [["9", "10", "11"], ["u9", "u10", "u11"], ["0:09", "0:10", "1:00"], ["9.5", "10", "10.25"], ["-1", "0", "1e1"]],
)
def test_order_is_by_size(places, import_table):
    rows = "".join(f"0,{place},A,{index}.,joy\n" for index, place in reversed(list(enumerate(places))))
    imported = import_table(f"{HEADER}\n{rows}")
    assert [turn.text for turn in imported.dialogues[0].turns] == ["0.", "1.", "2."]
    assert imported.report.notes == {"rows out of order": 1}


def test_without_order_the_file_has_it_and_equal_places_are_kept(import_table):
    rows = "0,1,A,x.,joy\n0,1,B,y.,joy\n0,0,A,z.,joy\n"
    imported = import_table(f"{HEADER}\n{rows}", columns=COLUMNS.replace("order=Utterance_ID,", ""))
    assert [turn.text for turn in imported.dialogues[0].turns] == ["x.", "y.", "z."]
    imported = import_table(f"{HEADER}\n{rows}")
    assert [turn.text for turn in imported.dialogues[0].turns] == ["z.", "x.", "y."]
    assert imported.report.notes["rows of one dialogue share their place: kept as in the file"] == 1


def test_roles_alternate_or_the_user_is_named(import_table):
    roles = [[turn.speaker for turn in d.turns] for d in import_table(f"{HEADER}\n{ROWS}", user="Bob|Carl").dialogues]
    assert roles == [["assistant", "user"], ["assistant"]]
    without = import_table(f"{HEADER}\n{ROWS}", columns="dialogue=Dialogue_ID,text=Utterance")
    assert [turn.speaker for turn in without.dialogues[0].turns] == ["user", "assistant"]
    with pytest.raises(DataError, match=r"user: nobody is called 'Dora'; the speakers are 'Ann' \(2\), 'Bob' \(1\)"):
        import_table(f"{HEADER}\n{ROWS}", user="Dora")


def test_a_row_without_a_dialogue_is_one_of_its_own(import_table):
    imported = import_table(f"{HEADER}\n{ROWS}", columns="text=Utterance,emotion=Emotion")
    assert [(d.id, len(d.turns)) for d in imported.dialogues] == [
        ("table-talk-2", 1),
        ("table-talk-3", 1),
        ("table-talk-4", 1),
    ]


def test_what_else_a_table_says_is_kept(import_table):
    header = "d,s,t,act,how,lang,show,where,part"
    rows = "0,A,Hi.,greeting,softly,zh,x,at home,dev\n0,B,Yo.,,,zh,x,at home,dev\n"
    columns = (
        "dialogue=d,speaker=s,text=t,strategy=act,description=how,language=lang,group=show,background=where,split=part"
    )
    (dialogue,) = import_table(f"{header}\n{rows}", columns=columns).dialogues
    assert (dialogue.split, dialogue.group, dialogue.background, dialogue.language) == (
        "validation", "table-x", "at home", "zh",
    )  # fmt: skip
    assert [(turn.strategy, turn.description) for turn in dialogue.turns] == [("greeting", "softly"), (None, None)]


def test_splits_by_file_and_by_name(tmp_path, import_table, import_from):
    imported = import_table(f"{HEADER}\n{ROWS}", "dev_talk.csv")
    assert {dialogue.split for dialogue in imported.dialogues} == {"validation"}
    assert imported.report.notes == {"split validation taken from the file's name": 1}
    imported = import_table(f"{HEADER}\n{ROWS}", "sub/b.csv", files="train=dev*.csv,test=sub/*.csv")
    assert [(d.id, d.split) for d in imported.dialogues] == [
        ("table-dev_talk-0", "train"), ("table-dev_talk-1", "train"),
        ("table-sub/b-0", "test"), ("table-sub/b-1", "test"),
    ]  # fmt: skip


def test_a_dialogue_is_in_one_split_whatever_its_rows_say(import_table):
    rows = "0,0,Ann,Hello.,joy,train,s1\n0,1,Bob,Go away.,anger,test,s2\n"
    columns = f"{COLUMNS},split=part,group=show"
    with pytest.raises(
        DataError, match=r"talk.csv:3: test, but train in its first row: rows of one dialogue name diff"
    ):
        import_table(f"{HEADER},part,show\n{rows}", columns=columns)
    imported = import_table(f"{HEADER},part,show\n{rows}", on_error="skip", columns=columns)
    assert imported.dialogues[0].split == "train" and len(imported.dialogues[0].turns) == 2
    imported = import_table(f"{HEADER},part,show\n{rows.replace('test', 'train')}", columns=columns)
    assert imported.report.notes == {"rows of one dialogue name different groups: the first counts": 1}


def test_several_columns_are_the_turns_of_a_row(import_table):
    content = "ask,feeling,answer\nI lost it.,afraid,Oh dear.\n"
    imported = import_table(content, columns="text=ask+answer,emotion=feeling", labels="empathetic")
    assert said(imported) == [[("user", None, "I lost it.", "fearful"), ("assistant", None, "Oh dear.", None)]]
    imported = import_table(content, columns="text=ask+answer,emotion=+feeling", labels="empathetic")
    assert [turn.emotion for turn in imported.dialogues[0].turns] == [None, "fearful"]


def test_rows_of_two_turns_are_ordered_as_rows(import_table):
    content = "talk,place,ask,answer\n1,10,E?,F.\n1,9,C?,D.\n1,2,A?,B.\n"
    imported = import_table(content, columns="dialogue=talk,order=place,text=ask+answer")
    assert "".join(turn.text[0] for turn in imported.dialogues[0].turns) == "ABCDEF"
    assert imported.report.notes == {"rows out of order": 1}


def test_a_quote_mark_may_be_a_letter(import_table):
    content = 'Dialogue_ID\tUtterance\n0\t"Yes," he said.\n0\t"No\n'
    with pytest.raises(DataError, match="talk.tsv:2 .*row is not CSV; mend the quotes, or say --quotes false"):
        import_table(content, "talk.tsv", columns="dialogue=Dialogue_ID,text=Utterance")
    imported = import_table(content, "talk.tsv", columns="dialogue=Dialogue_ID,text=Utterance", quotes=False)
    assert [turn.text for turn in imported.dialogues[0].turns] == ['"Yes," he said.', '"No']


def test_lists_in_a_row_are_its_turns(import_table):
    row = {"dialog": ["Hi.", "Yo.", "So?"], "emotion": [0, 4, 6], "act": [1, 2, 3]}
    imported = import_table(json.dumps(row), "a.jsonl", columns="text=dialog,emotion=emotion", labels="dailydialog")
    assert said(imported) == [
        [("user", None, "Hi.", "neutral"), ("assistant", None, "Yo.", "happy"), ("user", None, "So?", "surprised")]
    ]
    row["emotion"] = [0, 4]
    with pytest.raises(DataError, match=r"a.jsonl:1 \(3 texts, 2 of emotion\): row has not as many values as turns"):
        import_table(json.dumps(row), "a.jsonl", columns="text=dialog,emotion=emotion", labels="dailydialog")


def test_rows_deep_in_json(import_table):
    season = {"season_id": "s01", "episodes": [{"episode_id": "e02", "scenes": [
        {"scene_id": "c01", "utterances": [
            {"id": "u002", "speakers": ["Joey", "Ross"], "transcript": "Yeah!", "mark": {"emotion": "Joyful"}},
            {"id": "u001", "speakers": [], "transcript": "Hm.", "mark": {}},
        ]}]}]}  # fmt: skip
    columns = (
        "dialogue={season_id}_{episode_id}_{scene_id},order=id,speaker=speakers,text=transcript,emotion=mark.emotion"
    )
    options = {"rows": "episodes.scenes.utterances", "columns": columns, "labels": "emorynlp"}
    imported = import_table(json.dumps(season), "a.json", **options)
    assert imported.dialogues[0].id == "table-a-s01_e02_c01"
    assert said(imported) == [[("user", None, "Hm.", None), ("assistant", "Joey, Ross", "Yeah!", "happy")]]
    keyed = {"tr_1": [[{"speaker": "A", "utterance": "Hi."}]], "tr_2": [[{"speaker": "B", "utterance": "Yo."}]]}
    options = {"rows": "*", "columns": "dialogue=key,speaker=speaker,text=utterance"}
    assert [d.id for d in import_table(json.dumps(keyed), "a.json", **options).dialogues] == [
        "table-a-tr_1", "table-a-tr_2",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"one object; say where its rows lie, --rows NAME of 'tr_1', 'tr_2', or"):
        import_table(json.dumps(keyed), "a.json", columns="text=utterance")
    talks = "\n".join(json.dumps({"conversation": [{"text": "Hi."}, {"text": "Yo."}]}) for _ in range(2))
    Path(imported.out.parent / "root" / "a.json").unlink()
    imported = import_table(talks, "a.jsonl", rows="conversation", columns="text=text")
    assert [len(dialogue.turns) for dialogue in imported.dialogues] == [2, 2]


def test_patterns_and_codes_make_columns(tmp_path, import_table):
    content = "name,emotion,text\nG9/G9_42/G9_42_14_024,happy,a[over/]b\nG9/G9_42/G9_42_12_002,sad,c\n"
    pattern = ["name=(?P<talk>G\\d+_\\d+)_(?P<who>\\d+)_(?P<turn>\\d+)$"]
    columns = "dialogue=talk,order=turn,speaker=who,text=text,emotion=emotion"
    (tmp_path / "values.yaml").write_text('who:\n  "12": Ann\n  "14": Bob\n')
    options = {"pattern": pattern, "columns": columns, "labels": "words", "remove": r"\[\w+/\]"}
    imported = import_table(content, values=str(tmp_path / "values.yaml"), **options)
    assert said(imported) == [[("user", "Ann", "c", "sad"), ("assistant", "Bob", "ab", "happy")]]
    with pytest.raises(DataError, match="talk.csv:4: 'G9': name does not fit the pattern"):
        import_table(content + "G9,sad,d\n", **options)


def test_clips_by_template(tmp_path, make_wav, make_video, import_table):
    make_wav(tmp_path / "root" / "wav" / "0_000.wav")
    make_video(tmp_path / "root" / "clips" / "[0]*_1.mp4")
    content = f"{HEADER}\n0,0,A,Hi.,joy\n"
    (turn,) = import_table(content, media="wav/{dialogue_id}_{Utterance_ID:03}.wav").dialogues[0].turns
    assert turn.clip.audio.name == "0_000.wav" and turn.clip.video is None
    (turn,) = (
        import_table(f"{HEADER}\n[0]*,1,A,Hi.,joy\n", media="clips/{Dialogue_ID}_{Utterance_ID}.mp4").dialogues[0].turns
    )
    assert turn.clip.audio == turn.clip.video and turn.clip.audio.name == "[0]*_1.mp4"
    options = {"audio": "wav/{Dialogue_ID}_000.wav", "video": "clips/[{Dialogue_ID}]*_1.mp4"}
    (turn,) = import_table(content, **options).dialogues[0].turns
    assert (turn.clip.audio.name, turn.clip.video.name) == ("0_000.wav", "[0]*_1.mp4")


def test_times_lie_in_a_recording(tmp_path, make_wav, import_table):
    make_wav(tmp_path / "root" / "a.wav", seconds=3.0)
    content = "t,f,from,to\nHi.,a.wav,0:01,2.5\nYo.,a.wav,,\n"
    columns = "text=t,audio=f,start=from,end=to"
    imported = import_table(content, columns=columns)
    clips = [dialogue.turns[0].clip for dialogue in imported.dialogues]
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(1.0, 2.5), (0.0, None)]
    with pytest.raises(DataError, match="talk.csv:2: '2' to '1': end is not after start"):
        import_table("t,f,from,to\nHi.,a.wav,2,1\n", columns=columns)
    with pytest.raises(DataError, match="talk.csv:2: 'soon': time cannot be read"):
        import_table("t,f,from,to\nHi.,a.wav,soon,1\n", columns=columns)


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/hostname", "sub/../../secret.wav"])
def test_no_path_leaves_the_corpus(name, tmp_path, make_wav, import_table):
    make_wav(tmp_path / "secret.wav")
    with pytest.raises(DataError, match="clip leaves the corpus folder|clip is empty"):
        import_table(f"t,f\nHi.,{name}\n", columns="text=t,audio=f")
    assert not list((tmp_path / "out").rglob("*.wav"))


def test_names_of_recordings_are_rows(tmp_path, make_wav, import_table):
    for name in ("a/03-Hello-joy.wav", "a/03-Bye-anger.wav", "b/04-Hello-sadness.wav"):
        make_wav(tmp_path / "root" / name)
    pattern = [r"name=(?P<who>\d+)-(?P<word>\w+)-(?P<feeling>\w+)"]
    columns = "text=word,emotion=feeling,speaker=who,group=who,audio=path"
    options = {"columns": columns, "pattern": pattern, "files": "*/*.wav", "labels": "meld"}
    imported = import_table("", "unused.txt", **options)
    assert [(d.id, d.group, d.turns[0].emotion) for d in imported.dialogues] == [
        ("table-a/03-Bye-anger", "table-03", "angry"),
        ("table-a/03-Hello-joy", "table-03", "happy"),
        ("table-b/04-Hello-sadness", "table-04", "sad"),
    ]
    joined = import_table("", "unused.txt", **options | {"columns": f"dialogue=who,{columns}"})
    assert [len(dialogue.turns) for dialogue in joined.dialogues] == [2, 1]


def test_labels_that_are_not_in_the_map_are_counted_before_anything_is_written(import_table):
    rows = "0,0,A,x,glad\n0,1,B,y,GLAD\n0,2,A,z,odd\n0,3,B,w,joy\n0,4,B,v,\n"
    message = r"3 of 4 labels are not in the map 'meld': 'glad' \(1\), 'GLAD' \(1\), 'odd' \(1\); write what each is"
    with pytest.raises(DataError, match=message):
        import_table(f"{HEADER}\n{rows}")
    imported = import_table(f"{HEADER}\n{rows}", on_error="skip")
    assert [turn.emotion for turn in imported.dialogues[0].turns] == [None, None, None, "happy", None]
    assert imported.report.faults == {
        f"label {label!r} is not in the map 'meld'": 1 for label in ("glad", "GLAD", "odd")
    }
    assert imported.report.notes == {"turn without a label": 1}


FAULTS = {
    "row has the wrong number of columns": "0,0,A,x\n",
    "row is not CSV": '0,0,A,"x"y,joy\n',
    "utterance is empty": "0,0,A,  ,joy\n",
    "row is not UTF-8": b"0,0,A,\xe9t\xe9,joy\n",
    "row holds a NUL": "0,0,A,x\0,joy\n",
    "row names no dialogue": ",0,A,x,joy\n",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_row_stops_or_is_left_out(fault, import_table):
    row = FAULTS[fault]
    content = f"{HEADER}\n{ROWS}".encode() + (row if isinstance(row, bytes) else row.encode()) + b"1,1,Bob,Last.,joy\n"
    with pytest.raises(DataError, match=rf"talk.csv:5\b.*{fault}"):
        import_table(content)
    imported = import_table(content, on_error="skip")
    assert dict(imported.report.faults) == {fault: 1}
    assert imported.dialogue("table-talk-1").turns[-1].text == "Last."


def test_a_long_cell_and_quotes_are_read(import_table):
    text = 'She said ""no"", ' * 20_000
    imported = import_table(f'{HEADER}\n0,0,A,"{text}\n two",joy\n')
    assert imported.dialogues[0].turns[0].text == text.replace('""', '"') + "\n two"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("talk.csv.gz", gzip.compress(f"{HEADER}\n{ROWS * 2000}".encode(), 1)[:-60]),
        ("talk.tsv", f"{HEADER}\n{ROWS}".replace(",", "\t").encode("utf-16")[:-1]),
        ("talk.jsonl.gz", gzip.compress(b'{"Utterance": "x"}\n' * 9000, 1)[:-30]),
    ],
)
def test_a_file_that_is_cut_off_keeps_what_can_be_read(name, content, import_table):
    columns = "text=Utterance"
    with pytest.raises(DataError, match=r"rest of the file cannot be read; download the file again"):
        import_table(content, name, columns=columns)
    imported = import_table(content, name, on_error="skip", columns=columns)
    assert dict(imported.report.faults) == {"rest of the file cannot be read": 1} and imported.dialogues


REFUSED = {
    "no column 'Words'; the nearest is": ({"columns": "text=Words"}, "talk.csv", f"{HEADER}\n{ROWS}"),
    "columns: say which column is what": ({"columns": None}, "talk.csv", ""),
    "columns: say which column holds the words": ({"columns": "speaker=Speaker"}, "talk.csv", ""),
    "no field 'txt', the nearest is 'text'": ({"columns": "txt=a"}, "talk.csv", ""),
    "columns: 'text' comes twice": ({"columns": "text=a,text=b"}, "talk.csv", ""),
    "columns: 'text' is no NAME=VALUE": ({"columns": "text"}, "talk.csv", ""),
    "order sorts the rows of a dialogue": ({"columns": "text=a,order=b"}, "talk.csv", ""),
    "start and end are times in a recording": ({"columns": "text=a,start=b"}, "talk.csv", ""),
    "audio is a column and --media": ({"columns": "text=a,audio=b", "media": "{a}"}, "talk.csv", ""),
    "media: stands for sound and pictures": ({"audio": "{a}", "media": "{a}"}, "talk.csv", ""),
    "media: 'a.wav' names no column": ({"media": "a.wav"}, "talk.csv", ""),
    "'mled' is no file and no map, the nearest is 'meld'": ({"labels": "mled"}, "talk.csv", ""),
    "gone.yaml: no such file": ({"labels": "gone.yaml"}, "talk.csv", ""),
    "pattern: 'x': want column=expression": ({"pattern": ["x"]}, "talk.csv", ""),
    "user: '\\(' is no regular expression": ({"user": "("}, "talk.csv", ""),
    "delimiter: '::': want one character": ({"delimiter": "::"}, "talk.csv", ""),
    "files: 'dev=a.csv': want one of train, validation, test before": ({"files": "dev=a.csv"}, "talk.csv", ""),
    "files: '../a.csv' leaves": ({"files": "../a.csv"}, "talk.csv", ""),
    "no file 'b.csv'": ({"files": "b.csv"}, "talk.csv", ""),
    "no table \\(.csv, .tsv": ({}, "talk.txt", ""),
    "talk.csv: empty; want a line of column names": ({}, "talk.csv", "\n\n"),
    "column 'Speaker' comes twice": ({}, "talk.csv", f"{HEADER},Speaker\n"),
    "UTF-16 without its mark": ({}, "talk.csv", f"{HEADER}\n".encode("utf-16-le")),
    "a .xlsx file is no text; save the sheet as CSV": ({"files": "*.xlsx"}, "talk.xlsx", b"PK\x03\x04"),
    "talk.json: not JSON": ({}, "talk.json", "{"),
    "talk.json: not JSON \\(key 'Utterance' comes twice": (
        {"columns": "text=Utterance"}, "talk.json", '[{"Utterance": "a", "Utterance": "b"}]',
    ),
    "talk.jsonl:1: a JSON array over several lines, .* name the file .json": ({}, "talk.jsonl", "[\n{}\n]"),
    "talk.jsonl:1: want a JSON object, not a JSON array": ({}, "talk.jsonl", "[1]\n"),
    "no column 'Emotoin'": ({"columns": "text=Utterance,emotion=Emotoin"}, "a.jsonl", '{"Utterance": "x"}'),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_a_mistake_is_named(message, import_table):
    options, name, content = REFUSED[message]
    with pytest.raises(DataError, match=message):
        import_table(content, name, **options)


def test_real_meld_is_what_its_own_reader_gives(shared_data, import_from):
    def read(root, media, report):
        return read_table(root, media, report, TableOptions(**MELD))

    table = import_from(read, shared_data / "meld", out="table")
    meld = import_from(read_meld, shared_data / "meld", out="meld")
    by_split = {
        (split, kind): [said_turns(dialogue) for dialogue in imported.dialogues if dialogue.split == split]
        for kind, imported in (("table", table), ("meld", meld))
        for split in ("train", "validation", "test")
    }
    for split, count in (("train", 1038), ("validation", 114), ("test", 280)):
        assert by_split[split, "table"] == by_split[split, "meld"]
        assert len(by_split[split, "table"]) == count


def said_turns(dialogue):
    return [(turn.speaker, turn.text, turn.emotion, turn.name) for turn in dialogue.turns]


def test_real_emodb_by_its_table(shared_data, import_from):
    options = TableOptions(
        columns="text=text_code,speaker=speaker,emotion=emotion,group=speaker", media="{file}", labels="words",
        files="labels.csv", language="de",
    )  # fmt: skip
    imported = import_from(lambda *where: read_table(*where, options), shared_data / "emodb")
    assert len(imported.dialogues) == imported.card["clips"]["audio"] == 135
    assert imported.card["emotions"]["none"] == 0 and imported.card["clips"]["video"] == 0
    assert len({dialogue.group for dialogue in imported.dialogues}) == 10


def test_real_first_exchanges(shared_data, import_from):
    options = TableOptions(
        columns="dialogue=id,text=user+reply,emotion=emotion,background=situation", labels="empathetic"
    )
    imported = import_from(lambda *where: read_table(*where, options), shared_data / "empathetic")
    assert len(imported.dialogues) == 1007 and not imported.report.faults
    assert all(len(d.turns) == 2 and d.turns[1].emotion is None and d.background for d in imported.dialogues)

"""One verdict: check, import and training say the same of every file, and read the same dialogues from it."""

import json
import random

import pytest

from epo.data.checking import check_file
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.importing import import_corpus
from epo.data.corpora.jsonl import read_own
from epo.data.dialogue import DataError, Dialogue, Turn, read_dialogues
from epo.data.findings import CollectFaults
from epo.data.splits import SplitShares
from epo.preferences.pair import read_pairs

TURNS = [{"speaker": "user", "text": "Hi."}, {"speaker": "assistant", "text": "Oh.", "emotion": "sad"}]
ROW = {"id": "d", "split": "train", "turns": TURNS}


def lines(*rows, **changes):
    rows = rows if rows else ({**ROW, **changes},)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def text(words):
    return lines(turns=[{"speaker": "user", "text": words}, TURNS[1]])


GOOD = {
    "plain": lines(),
    "no line end": lines().rstrip(),
    "crlf": lines().replace(b"\n", b"\r\n"),
    "bom": b"\xef\xbb\xbf" + lines(),
    "bom and crlf": b"\xef\xbb\xbf" + lines().replace(b"\n", b"\r\n"),
    "blank last line": lines() + b"\n",
    "blank lines": b"\n \n" + lines() + b"\t\n" + lines(id="e"),
    "escapes": text("caf\u00e9 \U0001f622"),
    "bidi": text("\u202eabc \u0645\u0631\u062d\u0628\u0627\u202c"),
    "control": text("a\0b\x1f"),
    "cp1252": text("It\x92s"),
    "mojibake": text("ItÃ¢Â€Â™s"),
    "nfd": text("cafe\u0301"),
    "outer": text("\ufeff Hi \u200b"),
    "long": text("word " * 200_000),
    "id with blanks": lines(id=" d\u200b"),
    "optional nulls": lines(language=None, split=None, facts=None, group=None, personas=None),
    "huge id": lines(id="9" * 5000),
}
BAD = {
    "empty line is no object": lines() + b"3\n",
    "utf-16": lines().decode().encode("utf-16"),
    "utf-16 without mark": lines().decode().encode("utf-16-le"),
    "utf-32": lines().decode().encode("utf-32"),
    "cp1252 bytes": lines().replace(b"Hi", b"caf\xe9"),
    "array": b"[" + lines().rstrip() + b"]",
    "array over lines": b"[\n" + lines().rstrip() + b"\n]\n",
    "pretty": json.dumps(ROW, indent=2).encode(),
    "cut": lines() + lines(id="e")[:40],
    "two in a line": lines().rstrip() + lines(id="e"),
    "mac": lines().replace(b"\n", b"\r") + lines(id="e").replace(b"\n", b"\r"),
    "duplicate key": lines().replace(b'"id"', b'"id": "x", "id"'),
    "duplicate key below": lines().replace(b'"speaker": "user"', b'"speaker": "user", "speaker": "user"'),
    "surrogate": text("ha \ud83d"),
    "surrogate id": lines(id="\ud83d"),
    "surrogate key": lines(**{"\ud83d": 1}),
    "surrogate fact": lines(facts={"1": ["\ud83d"]}),
    "surrogate persona": lines(personas={"user": ["\ud83d"]}),
    "surrogate clip": lines(turns=[TURNS[0] | {"clip": {"audio": "\udc92.wav"}}]),
    "invisible": text("\u200b\ufeff"),
    "braille blank": text("\u2800"),
    "nan": lines(turns=[TURNS[0] | {"clip": {"audio": "a.wav", "start_s": float("nan")}}]),
    "huge integer": lines().replace(b'"train"', b"9" * 5000),
    "huge fact": lines().replace(b'"train"', b'"train", "facts": {"1": ' + b"9" * 5000 + b"}"),
    "huge time": lines(turns=[TURNS[0] | {"clip": {"audio": "a.wav", "end_s": 10**400}}]).replace(b"null", b"0"),
    "nested": b'{"id":' + b"[" * 100_000 + b"\n",
    "unknown key": lines(mood="sad"),
    "label in the words": lines(turns=[TURNS[0] | {"text": "(sad) Hi.", "emotion": "sad"}]),
    "unknown label": lines(turns=[TURNS[0] | {"emotion": "excited"}]),
    "unknown split": lines(split="dev"),
    "unknown speaker": lines(turns=[{"speaker": "bot", "text": "Hi."}, TURNS[0]]),
    "no id": lines({"turns": TURNS}),
    "number as id": lines(id=3),
    "no turns": lines(turns=[]),
    "missing clip": lines(turns=[TURNS[0] | {"clip": {"audio": "a.wav"}}]),
    "leaving clip": lines(turns=[TURNS[0] | {"clip": {"audio": "../a.wav"}}]),
    "same id": lines(ROW, ROW),
    "same id but for blanks": lines(ROW, ROW | {"id": " d "}),
    "same id but for form": lines(ROW | {"id": "\u00e9"}, ROW | {"id": "e\u0301"}),
    "same id but for what is invisible": lines(ROW | {"id": "ab"}, ROW | {"id": "a\u200bb"}),
}  # fmt: skip


def verdicts(folder, raw):
    """What training, check and a strict import make of a file: dialogues, or the fault."""
    folder.mkdir()
    path = folder / "dialogues.jsonl"
    path.write_bytes(raw)
    try:
        read = list(read_dialogues(path))
    except DataError as error:
        read = str(error)
    faults = check_file(path, decode=False).faults
    report = ImportReport("stop")
    try:
        import_corpus(read_own, folder, folder / "out", SplitShares(), report, {}, decode=False)
        imported = list(read_dialogues(folder / "out" / "dialogues.jsonl"))
    except DataError as error:
        imported = str(error)
    return read, faults, imported


@pytest.mark.parametrize("name", GOOD)
def test_what_is_good_is_good_everywhere_and_the_same(name, tmp_path):
    read, faults, imported = verdicts(tmp_path / "own", GOOD[name])
    assert faults == [] and isinstance(read, list), read
    have_split = [dialogue for dialogue in read if dialogue.split is not None]
    assert [dialogue for dialogue in imported if dialogue.id in {d.id for d in have_split}] == have_split
    assert [dialogue.id for dialogue in imported] == [dialogue.id for dialogue in read]


@pytest.mark.parametrize("name", BAD)
def test_what_is_bad_is_bad_everywhere_for_the_same_reason(name, tmp_path):
    read, faults, imported = verdicts(tmp_path / "own", BAD[name])
    assert isinstance(read, str) and isinstance(imported, str) and faults
    assert read == faults[0]
    place = read.rpartition("; ")[0]
    assert imported.startswith(place), (read, imported)
    for message in (read, imported, *faults):
        message.encode()
        assert message.startswith(f"{tmp_path / 'own' / 'dialogues.jsonl'}:") and len(message) < 500


@pytest.mark.parametrize("name", BAD)
def test_what_skip_leaves_is_good(name, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "dialogues.jsonl").write_bytes(BAD[name] + b"\n" + lines(id="sound"))
    report = ImportReport("skip")
    try:
        import_corpus(read_own, tmp_path / "own", tmp_path / "out", SplitShares(), report, {}, decode=False)
    except DataError as error:  # of a file that cannot be read as lines at all
        assert "not one usable dialogue; left out: 1 x " in str(error)
    else:
        assert check_file(tmp_path / "out" / "dialogues.jsonl", decode=False).faults == []
        assert sum(report.faults.values()) >= 1


TALK = {"d": Dialogue("d", (Turn("user", "Hi."), Turn("assistant", "Oh.", "sad")))}
PAIR = {"dialogue_id": "d", "turn": 1, "chosen": "ho", "rejected": "ha", "source": "people"}


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_pairs_are_read_by_the_same_lines(name, tmp_path):
    """Whatever makes a file of dialogues unreadable as lines makes a file of pairs so too."""
    raw = (GOOD | BAD)[name]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(raw)
    findings = CollectFaults()
    with pytest.raises(DataError, match="holds no pair"):
        read_pairs(path, TALK, findings)
    assert findings.faults
    with pytest.raises(DataError) as stopped:
        read_pairs(path, TALK)
    assert str(stopped.value) == findings.faults[0]


def mutate(raw, rng):
    """A few changes to bytes or to characters, as broken disks, editors and programs make them."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) + 1)
        change = rng.randrange(5)
        if change == 0 and at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del raw[at : at + rng.randint(1, 30)]
        elif change == 2:
            raw[at:at] = raw[at : at + rng.randint(1, 60)]
        elif change == 3:
            raw[at:at] = rng.choice(
                [b"\\ud83d", b"\\u200b", b"\\u0000", "\ufeff".encode(), b"\xc3\xa9", b"\n", b"9" * 400]
            )
        else:
            raw[at : at + 1] = rng.choice([b"\x92", b'"', b"}", b"NaN", b"1e999", b"\r", b"[", "Ã©".encode()])
    return bytes(raw)


@pytest.mark.parametrize("kind", ["dialogues", "pairs"])
def test_mutated_lines_end_in_a_data_error_or_in_sound_data(kind, tmp_path):
    """`benchmarks/fuzz_lines.py` does the same 20,000 times."""
    rng = random.Random(kind)
    path = tmp_path / "lines.jsonl"
    sound = lines() if kind == "dialogues" else json.dumps(PAIR).encode() + b"\n"
    for _ in range(400):
        path.write_bytes(mutate(sound, rng))
        findings = CollectFaults()
        try:
            if kind == "dialogues":
                found = list(read_dialogues(path, findings))
                assert check_file(path, decode=False).faults == findings.faults
            else:
                found = read_pairs(path, TALK, findings)
        except DataError as error:
            assert "holds no pair" in str(error)
            found = []
        for message in findings.faults:
            message.encode()
        json.dumps([item.__dict__ for item in found], default=str, ensure_ascii=False).encode()
        if not findings.faults and kind == "dialogues":
            assert list(read_dialogues(path)) == found

"""Label maps: sizes, targets, files as people write them, and the corpora's own."""

import pytest

from epo.data.corpora.listing import corpora, label_maps
from epo.data.dialogue import DataError
from epo.data.label_sets import GOEMOTIONS, LABEL_SETS, WORDS
from epo.data.labels import read_label_file
from epo.emotions import EMOTIONS, UnknownEmotionError

# How many labels each publication has.
SIZES = {
    "deepdialogue": 20, "goemotions": 28, "empathetic": 32, "emonet": 40, "multidialog": 7, "meld": 7, "iemocap": 11,
    "m3ed": 7, "topical_chat": 8,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_a_map_has_every_label_of_its_set(name):
    assert len(label_maps()[name].emotions) == SIZES[name]


def test_every_target_is_one_of_the_seven_or_left_out():
    assert {labels.name for labels in LABEL_SETS} < set(label_maps())
    for name, labels in label_maps().items():
        assert set(labels.emotions.values()) <= {*EMOTIONS, None}, name
        assert all(label == label.strip().lower() for label in labels.emotions), name
        assert labels.name == name and labels.about.endswith(".")


def test_the_usual_words_contradict_no_corpus():
    for labels in label_maps().values():
        for label, emotion in labels.emotions.items():
            if emotion is not None and label in WORDS.emotions and len(label) > 1:
                assert WORDS.emotions[label] == emotion, (labels.name, label)


def test_goemotions_is_grouped_as_its_paper_does():
    """27 labels and neutral; of the six groups the largest is joy, with twelve."""
    targets = list(GOEMOTIONS.emotions.values())
    assert {emotion: targets.count(emotion) for emotion in EMOTIONS} == {
        "angry": 3, "disgust": 1, "fearful": 2, "happy": 12, "neutral": 1, "sad": 5, "surprised": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("corpus", "label", "emotion"),
    [
        ("multidialog", "Disgusting", "disgust"),
        ("meld", "joy", "happy"),
        ("iemocap", "exc", "happy"),
        ("iemocap", "fru", "angry"),
        ("iemocap", "xxx", None),
        ("m3ed", "Fear", "fearful"),
        ("topical_chat", "Curious to dive deeper", "neutral"),
        ("emonet", "Hope/Enthusiasm/Optimism", "happy"),
        ("empathetic", "nostalgic", None),
        ("words", " JOY ", "happy"),
    ],
)
def test_each_corpus_has_its_names(corpus, label, emotion):
    assert label_maps()[corpus].read(label) == emotion


def test_an_unknown_label_lists_the_known():
    with pytest.raises(UnknownEmotionError, match="'happy'.*hap"):
        label_maps()["iemocap"].read("happy")


@pytest.mark.parametrize("name", sorted(label_maps()))
def test_a_printed_map_reads_back(name, tmp_path):
    labels = label_maps()[name]
    (tmp_path / "map.yaml").write_text(labels.as_yaml())
    assert read_label_file(tmp_path / "map.yaml").emotions == labels.emotions


def test_labels_of_a_file_are_text(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("01: neutral\nno: sad\n0: Happy\nJoy: happy\n~: leave out\nodd one: LEAVE_OUT\n1.0: angry\n")
    assert dict(read_label_file(path).emotions) == {
        "01": "neutral", "no": "sad", "0": "happy", "joy": "happy", "~": None, "odd one": None, "1.0": "angry",
    }  # fmt: skip


MISTAKES = {
    "x.yaml:1: 'joy' is 'hapy'; want one of angry, .* \\(the nearest is 'happy'\\)": "joy: hapy\n",
    "x.yaml:2: 'JOY' comes twice": "joy: happy\nJOY: sad\n",
    "x.yaml: want one `label: emotion` a line": "- joy\n",
    "x.yaml:1: want one `label: emotion` a line": "joy: [happy]\n",
    "x.yaml: not YAML": "joy: {",
    "x.yaml: no label": "# nothing\n",
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_in_a_file_is_named(message, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(MISTAKES[message])
    with pytest.raises(DataError, match=message):
        read_label_file(path)


def test_a_missing_and_an_unreadable_file(tmp_path):
    with pytest.raises(DataError, match="gone.yaml: no such file"):
        read_label_file(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("fröhlich: happy\n".encode("latin-1"))
    with pytest.raises(DataError, match="latin.yaml: not UTF-8"):
        read_label_file(tmp_path / "latin.yaml")


def test_every_corpus_says_what_it_is():
    assert len(corpora()) >= 8
    for name, corpus in corpora().items():
        assert corpus.name == name and corpus.about and corpus.licence and len(corpus.about) < 90

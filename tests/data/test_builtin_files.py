"""The built-in corpus's files: the same bytes whatever the workers, resumable, neither trivial nor hopeless."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.corpora.builtin.face import draw_face, film
from epo.data.corpora.builtin.voice import SAMPLE_RATE_HZ, Utterance, draw_voice, speak
from epo.data.dialogue import SPLITS, DataError, Dialogue, read_dialogues
from epo.data.media import MediaLimits, decode_clip
from epo.emotions import EMOTIONS

SMALL = BuiltinCorpus(
    num_train=9,
    num_train_with_clips=6,
    num_validation=3,
    num_test=4,
    num_train_speakers=4,
    num_validation_speakers=2,
    num_test_speakers=2,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_builtin_corpus(tmp_path_factory.mktemp("corpus"), SMALL, workers=1, progress=False)


@pytest.fixture(scope="module")
def dialogues(corpus) -> list[Dialogue]:
    return list(read_dialogues(corpus))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- what is written -----------------------------------------------------------------------------------------


def test_splits_and_clips_are_as_asked(dialogues):
    by_split = {split: [d for d in dialogues if d.split == split] for split in SPLITS}
    assert [len(by_split[split]) for split in SPLITS] == [9, 3, 4]
    for dialogue in dialogues:
        clips = [index for index, turn in enumerate(dialogue.turns) if turn.clip is not None]
        if dialogue.split == "train" and dialogue.id >= "train-00006":
            assert clips == []
        else:
            assert len(clips) == 2 and clips[-1] == len(dialogue.turns) - 2
            assert all(dialogue.turns[index].speaker == "user" for index in clips)


def test_speakers_stay_in_their_split(dialogues):
    speakers: dict[str, set[str]] = {split: set() for split in SPLITS}
    for dialogue in dialogues:
        folders = {turn.clip.audio.parent for turn in dialogue.turns if turn.clip is not None}
        assert len(folders) <= 1  # one speaker a dialogue
        speakers[dialogue.split] |= {f"{folder.parent.name}/{folder.name}" for folder in folders}
    assert [len(speakers[split]) for split in SPLITS] == [4, 2, 2]
    assert all(name.startswith(split) for split in SPLITS for name in speakers[split])


def test_speakers_of_different_splits_sound_and_look_different():
    drawn = [np.random.default_rng([0, split, speaker]) for split in range(3) for speaker in range(24)]
    pitches = {draw_voice(rng).pitch_hz for rng in drawn}
    assert len(pitches) == 72


def test_clips_decode_through_the_common_path(dialogues):
    for dialogue in dialogues[:3]:
        clip = dialogue.turns[-2].clip
        media = decode_clip(clip, MediaLimits())
        assert 1.5 * 16000 <= len(media.waveform) < 2 * 16000
        assert 0.02 < np.abs(media.waveform).max() <= 1
        assert media.frames.shape[1:] == (48, 48, 3) and 6 <= len(media.frames) <= 8
        assert np.diff(media.frames.astype(int), axis=0).any(axis=(1, 2, 3)).all()  # the face moves
        assert soundfile.info(clip.audio).samplerate == SAMPLE_RATE_HZ


def test_the_card_counts_what_is_there(corpus, dialogues):
    card = json.loads((corpus.parent / "card.json").read_text())
    assert card["settings"]["seed"] == 0 and card["settings"]["generic_share"] == 0.7
    assert [card["splits"][split]["clips"] for split in SPLITS] == [12, 6, 8]
    assert card["splits"]["test"]["speakers"] == ["test/speaker00", "test/speaker01"]
    train = [d for d in dialogues if d.split == "train"]
    emotions = [d.turns[-1].emotion for d in train]
    assert card["splits"]["train"]["reply_emotions"] == {name: emotions.count(name) for name in EMOTIONS}
    assert card["splits"]["test"]["generic_replies"] == card["splits"]["test"]["mismatched_replies"] == 0


# --- the same bytes ------------------------------------------------------------------------------------------


def test_the_seed_fixes_every_byte(corpus, tmp_path):
    write_builtin_corpus(tmp_path / "again", SMALL, workers=1, progress=False)
    assert digests(tmp_path / "again") == digests(corpus.parent)


@pytest.mark.slow  # starts interpreters
def test_the_number_of_workers_changes_no_byte(corpus, tmp_path):
    write_builtin_corpus(tmp_path / "two", SMALL, workers=2, progress=False)
    assert digests(tmp_path / "two") == digests(corpus.parent)


def test_another_seed_gives_other_clips(corpus, tmp_path):
    tiny = {"num_train": 1, "num_train_with_clips": 1, "num_validation": 0, "num_test": 0}
    other = write_builtin_corpus(tmp_path, BuiltinCorpus(seed=1, **tiny), workers=1, progress=False)
    assert not set(digests(other.parent).values()) & set(digests(corpus.parent).values())


def test_an_interrupted_run_is_taken_up(corpus, tmp_path):
    whole = digests(corpus.parent)
    write_builtin_corpus(tmp_path, SMALL, workers=1, progress=False)
    (tmp_path / "card.json").unlink()
    (tmp_path / "dialogues.jsonl").unlink()
    clips = sorted((tmp_path / "media").rglob("*.*"))
    clips[0].unlink()
    kept = clips[10].stat().st_mtime_ns
    write_builtin_corpus(tmp_path, SMALL, workers=1, progress=False)
    assert digests(tmp_path) == whole
    assert clips[10].stat().st_mtime_ns == kept


def test_a_finished_corpus_is_left_alone(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.parent.rglob("*")}
    assert write_builtin_corpus(corpus.parent, SMALL, workers=1, progress=False) == corpus
    assert {path: path.stat().st_mtime_ns for path in corpus.parent.rglob("*")} == before


def test_a_folder_of_other_settings_is_refused(corpus):
    other = dataclasses.replace(SMALL, seed=5)
    with pytest.raises(DataError, match="settings.json: this folder holds a corpus of other settings"):
        write_builtin_corpus(corpus.parent, other, workers=1, progress=False)


# --- voice and face ------------------------------------------------------------------------------------------


def utter(emotion: str, strength: float, seed: int) -> Utterance:
    return speak(draw_voice(np.random.default_rng(seed % 7)), emotion, strength, np.random.default_rng(seed))


def mean_level_db(emotion: str) -> float:
    powers = [np.mean(utter(emotion, 1.0, seed).waveform ** 2) for seed in range(20)]
    return float(10 * np.log10(np.mean(powers)))


def brightness(emotion: str) -> float:
    """Share of the power above 1 kHz."""
    shares = []
    for seed in range(20):
        power = np.abs(np.fft.rfft(utter(emotion, 1.0, seed).waveform)) ** 2
        shares.append(power[len(power) // 8 :].sum() / power.sum())
    return float(np.mean(shares))


def test_anger_is_loud_and_bright_sadness_soft():
    assert mean_level_db("angry") > mean_level_db("neutral") + 4 > mean_level_db("sad") + 8
    assert brightness("angry") > 1.5 * brightness("neutral")


def test_fear_speaks_faster_than_sadness():
    def syllables_per_s(emotion: str) -> float:
        spoken = [utter(emotion, 1.0, seed) for seed in range(20)]
        return float(np.mean([len(one.syllables_s) / one.duration_s for one in spoken]))

    # exp(0.32 + 0.42) = 2.1 times as fast, but for rounding and strays.
    assert syllables_per_s("fearful") / syllables_per_s("sad") == pytest.approx(2.1, abs=0.3)


def test_without_strength_every_emotion_is_neutral():
    sounds = [utter(emotion, 0.0, 3).waveform for emotion in EMOTIONS]
    for sound in sounds[1:]:
        np.testing.assert_array_equal(sound, sounds[0])


def test_an_expression_grows_from_a_face_at_rest():
    utterance = utter("neutral", 1.0, 0)
    face = draw_face(np.random.default_rng(1))

    def gap(frame: int) -> float:
        """Mean difference to the neutral face, over pairs of films that share every other draw."""
        gaps = []
        for seed in range(12):
            films = [
                film(face, emotion, 1.0, utterance, np.random.default_rng(seed)).astype(float)
                for emotion in ("neutral", "surprised")
            ]
            gaps.append(np.abs(films[0][frame] - films[1][frame]).mean())
        return float(np.mean(gaps))

    assert gap(0) < 0.2 * gap(-3)


@pytest.mark.slow  # synthesises some hundred clips
def test_unseen_voices_are_recognised_above_chance_and_below_certainty():
    """Mean and spread of a spectrum over time, and a linear classifier: between 0.45 and 0.80 on new speakers."""

    def draw(split: int, num_speakers: int, count: int) -> tuple[np.ndarray, list[int]]:
        voices = [draw_voice(np.random.default_rng([split, speaker])) for speaker in range(num_speakers)]
        features = []
        for index in range(count):
            rng = np.random.default_rng([split, index, 1])
            strength = rng.uniform(0.35, 1)
            sound = speak(voices[index % num_speakers], EMOTIONS[index % 7], strength, rng).waveform
            frames = sound[: len(sound) // 400 * 400].reshape(-1, 400) * np.hanning(400)
            bands = np.abs(np.fft.rfft(frames)[:, :192]).reshape(len(frames), 48, 4).mean(2)
            level = np.log10(bands + 1e-3)
            features.append(np.concatenate([level.mean(0), level.std(0), np.diff(level, axis=0).std(0)]))
        return np.array(features), [index % 7 for index in range(count)]

    train, test = draw(0, 24, 600), draw(1, 10, 210)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=200)).fit(*train)
    assert 0.45 < model.score(*test) < 0.80

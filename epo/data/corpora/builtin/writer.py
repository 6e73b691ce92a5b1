"""Write the built-in corpus to disk: WAV and MP4 files, `dialogues.jsonl` and, last, `card.json`."""

import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from compressor.progress import Progress
from epo.data.corpora.builtin.espeak import draw_spoken_voice, espeak_version, speak_words
from epo.data.corpora.builtin.face import FPS, Expression, FaceTraits, draw_expression, draw_face, film
from epo.data.corpora.builtin.script import write_script
from epo.data.corpora.builtin.settings import BuiltinCorpus
from epo.data.corpora.builtin.voice import SAMPLE_RATE_HZ, Utterance, VoiceCues, draw_voice, speak
from epo.data.dialogue import SPLITS, Clip, DataError, Dialogue, Split, write_dialogues
from epo.emotions import EMOTIONS, Emotion, fitting_emotion

# Raised whenever the same settings would give other bytes, so that an older folder is not taken for this one.
GENERATOR_VERSION = 2
_JOBS_PER_TASK = 16


@dataclass(frozen=True)
class _ClipJob:
    """All that fixes one clip; small enough to send to another process."""

    seed: int
    split: Split
    speaker: int
    index: int
    turn: int
    emotion: Emotion
    audio: Path
    video: Path
    words: str | None = None  # to say; None for meaningless syllables


def write_builtin_corpus(out: Path, settings: BuiltinCorpus, workers: int = 2, progress: bool = True) -> Path:
    """Generate the corpus below `out`, or take up where an interrupted run stopped.

    The bytes depend on the settings alone, not on `workers`. With two workers or more, processes are spawned, so
    the calling script must guard its entry point with `if __name__ == "__main__"`.

    Args:
        out: the corpus folder; made if missing.
        settings: sizes, speakers, noise, seed.
        workers: processes that draw and encode; 1 stays in this process.
        progress: show a bar.

    Returns:
        Path of `dialogues.jsonl`; splits are marked in it, media lie in `media/` beside it.

    Raises:
        DataError: the folder holds a corpus of other settings, or of another version of espeak-ng.
        EspeakError: espeak-ng is to speak, and is not there or lacks a voice.
    """
    dialogues_path, card_path = out / "dialogues.jsonl", out / "card.json"
    _claim(out, settings)
    if card_path.is_file() and dialogues_path.is_file():
        return dialogues_path
    dialogues, jobs = _plan(out, settings)
    _run_jobs([job for job in jobs if not _is_done(job)], workers, progress)
    write_dialogues(dialogues_path, dialogues)
    _write_json(card_path, _describe(settings, dialogues))
    return dialogues_path


def _claim(out: Path, settings: BuiltinCorpus) -> None:
    """Note the settings in the folder, or refuse the folder if other settings are noted there."""
    wanted = _noted(settings)
    note = out / "settings.json"
    if not note.is_file():
        out.mkdir(parents=True, exist_ok=True)
        _write_json(note, wanted)
    elif json.loads(note.read_text()) != wanted:
        raise DataError(f"{note}: this folder holds a corpus of other settings; remove it or choose another folder")


def _noted(settings: BuiltinCorpus) -> dict[str, Any]:
    """Return what fixes the bytes; of a corpus of vowels what was noted before there was another voice."""
    noted: dict[str, Any] = {"generator_version": GENERATOR_VERSION, **asdict(settings)}
    if settings.voice == "vowels":
        del noted["voice"]
        return noted
    return noted | {"espeak_version": espeak_version()}


def plan_builtin_corpus(out: Path, settings: BuiltinCorpus) -> list[Dialogue]:
    """Return the dialogues that `write_builtin_corpus` would write, their clips not yet there."""
    return _plan(out, settings)[0]


def _plan(out: Path, settings: BuiltinCorpus) -> tuple[list[Dialogue], list[_ClipJob]]:
    dialogues, jobs = [], []
    for split in SPLITS:
        for index in range(settings.num_dialogues(split)):
            dialogue = write_script(settings, split, index)
            if settings.has_clips(split, index):
                dialogue, more = _attach_clips(dialogue, out, settings, split, index)
                jobs += more
            dialogues.append(dialogue)
    return dialogues, jobs


def _attach_clips(
    dialogue: Dialogue, out: Path, settings: BuiltinCorpus, split: Split, index: int
) -> tuple[Dialogue, list[_ClipJob]]:
    """Give a clip to the current turn and to earlier user turns drawn at random; one speaker a dialogue."""
    current = len(dialogue.turns) - 2
    num_earlier = min(settings.clips_per_dialogue - 1, current // 2)
    rng = random.Random(f"{settings.seed}/{split}/{index}/clips")
    numbers = sorted([*rng.sample(range(0, current, 2), num_earlier), current])
    speaker = index % settings.num_speakers(split)
    turns, jobs = list(dialogue.turns), []
    for number in numbers:
        emotion = turns[number].emotion
        assert emotion is not None
        stem = out / "media" / split / f"speaker{speaker:02d}" / f"{index:05d}-{number:02d}"
        audio, video = stem.with_suffix(".wav"), stem.with_suffix(".mp4")
        words = turns[number].text if settings.voice == "espeak" else None
        jobs.append(_ClipJob(settings.seed, split, speaker, index, number, emotion, audio, video, words))
        turns[number] = replace(turns[number], clip=Clip(audio, video))
    return replace(dialogue, turns=tuple(turns)), jobs


def _is_done(job: _ClipJob) -> bool:
    return job.audio.is_file() and job.video.is_file()


def _run_jobs(jobs: list[_ClipJob], workers: int, progress: bool) -> None:
    tasks = [jobs[start : start + _JOBS_PER_TASK] for start in range(0, len(jobs), _JOBS_PER_TASK)]
    shown = Progress("built-in corpus", len(jobs), "clips", is_shown=progress)
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            shown.advance(_make_clips(task))
    else:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads of whatever is loaded
        with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            for count in pool.map(_make_clips, tasks):
                shown.advance(count)
    shown.close()


def _make_clips(jobs: list[_ClipJob]) -> int:
    for job in jobs:
        _make_clip(job)
    return len(jobs)


@dataclass(frozen=True)
class DrawnClip:
    """What was drawn for one clip of the corpus.

    Attributes:
        dialogue_id: and `turn`: whose clip it is.
        turn: counted from 0.
        video: the clip's file.
        voice: how the voice sounds, beside the speaker's neutral manner.
        face: how the face departs from rest, and when.
        duration_s: of the clip.
    """

    dialogue_id: str
    turn: int
    video: Path
    voice: VoiceCues
    face: Expression
    duration_s: float


def draw_again(folder: Path) -> Iterator[DrawnClip]:
    """Yield what was drawn for each clip of a corpus that lies in a folder: from its seeds, for no file holds it.

    Raises:
        DataError: the folder holds no built-in corpus, or one of another version.
    """
    settings = _settings_of(folder)
    for job in _plan(folder, settings)[1]:
        utterance, _, strength, rng = _voice_of(job)
        face = draw_expression(job.emotion, strength, utterance.duration_s, rng)
        name = f"{job.split}-{job.index:05d}"
        yield DrawnClip(name, job.turn, job.video, utterance.cues, face, utterance.duration_s)


def _settings_of(folder: Path) -> BuiltinCorpus:
    note = folder / "settings.json"
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        version, spoken = said.pop("generator_version"), said.pop("espeak_version", None)
        settings = BuiltinCorpus(**said)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(
            f"{note}: want the settings that `launch/data.py import --corpus builtin` writes beside its dialogues, for "
            "only of the built-in corpus is it known what was drawn; name its own dialogues.jsonl, or another source"
        ) from error
    if version != GENERATOR_VERSION:
        raise DataError(
            f"{note}: written by version {version!r:.20} of the generator, this is {GENERATOR_VERSION}; import it anew"
        )
    if settings.voice == "espeak" and spoken != espeak_version():
        raise DataError(f"{note}: spoken by espeak-ng {spoken!r:.20}, this is {espeak_version()}; import it anew")
    return settings


def _voice_of(job: _ClipJob) -> tuple[Utterance, FaceTraits, float, np.random.Generator]:
    """Return the utterance, the face, how strongly it shows the emotion, and the numbers that its shot is drawn with.

    Voice and face differ in strength: 0.35 to 1 each, the stronger at least 0.6.
    """
    split = SPLITS.index(job.split)
    speaker_rng = np.random.default_rng([job.seed, split, job.speaker])
    voice, face = draw_voice(speaker_rng), draw_face(speaker_rng)
    rng = np.random.default_rng([job.seed, split, job.index, job.turn, 1])
    strong, other = rng.uniform(0.6, 1.0), rng.uniform(0.35, 1.0)
    voice_strength, face_strength = (strong, other) if rng.random() < 0.5 else (other, strong)
    if job.words is None:
        return speak(voice, job.emotion, voice_strength, rng), face, face_strength, rng
    spoken = draw_spoken_voice(job.seed, job.split, job.speaker)
    return speak_words(spoken, job.words, job.emotion, voice_strength, rng), face, face_strength, rng


def _make_clip(job: _ClipJob) -> None:
    """Draw and encode one clip."""
    utterance, face, strength, rng = _voice_of(job)
    frames = film(face, job.emotion, strength, utterance, rng)
    job.audio.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(job.video) as partial:
        _encode_video(partial, frames)
    with _replacing(job.audio) as partial:
        soundfile.write(partial, utterance.waveform, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to that takes the place of `path` once the block ends well."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _encode_video(path: Path, frames: np.ndarray) -> None:
    """Write uint8 (F, H, W, 3) frames as H.264; one thread, so the bytes do not depend on the machine's cores."""
    options = {"preset": "superfast", "crf": "18"}
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _describe(settings: BuiltinCorpus, dialogues: list[Dialogue]) -> dict[str, Any]:
    """Count what was written: the corpus card."""
    return {
        "corpus": "builtin",
        "settings": _noted(settings),
        "splits": {split: _describe_split(settings, split, dialogues) for split in SPLITS},
    }


def _describe_split(settings: BuiltinCorpus, split: Split, dialogues: list[Dialogue]) -> dict[str, Any]:
    ours = [dialogue for dialogue in dialogues if dialogue.split == split]
    wanted = [(fitting_emotion(_label(dialogue, -2)), _label(dialogue, -1)) for dialogue in ours]
    seen = [index for index in range(len(ours)) if settings.has_clips(split, index)]
    speakers = sorted({index % settings.num_speakers(split) for index in seen})
    return {
        "dialogues": len(ours),
        "turns": sum(len(dialogue.turns) for dialogue in ours),
        "clips": sum(turn.clip is not None for dialogue in ours for turn in dialogue.turns),
        "speakers": [f"{split}/speaker{number:02d}" for number in speakers],
        "user_emotions": _histogram([_label(dialogue, -2) for dialogue in ours]),
        "reply_emotions": _histogram([answer for _, answer in wanted]),
        "generic_replies": sum(answer == "neutral" != fitting for fitting, answer in wanted),
        "mismatched_replies": sum(answer not in (fitting, "neutral") for fitting, answer in wanted),
    }


def _label(dialogue: Dialogue, turn: int) -> Emotion:
    emotion = dialogue.turns[turn].emotion
    assert emotion is not None
    return emotion


def _histogram(labels: list[Emotion]) -> dict[str, int]:
    counts = Counter(labels)
    return {emotion: counts[emotion] for emotion in EMOTIONS}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with _replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")

"""What trains an extractor, and what validates it, by what it learns from: labels, ratings, descriptions or words."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from transformers import Trainer, TrainingArguments

from compressor.curriculum import ScheduledDataset
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError, Dialogue
from epo.data.selection import (
    TaughtClip,
    clips_to_recognise,
    described_clips,
    labelled_clips,
    spoken_clips,
)
from epo.emotions import Emotion
from epo.evaluation.vad_measuring import vad_concordance
from epo.evaluation.word_error import character_error_rate, word_error_rate
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.hearing import hearing_of
from epo.model.parts import load_llm, load_tokenizer
from epo.prompts.marks import add_placeholders
from epo.training.collate import ClipCollator
from epo.training.face_captions import CaptionCollator, FaceCaptioner, FaceTrainer, mean_description_nll
from epo.training.sft import ExtractorTrainer
from epo.training.speech_words import (
    CtcReader,
    SpeechLearner,
    SpeechTrainer,
    WordReader,
    WordsCollator,
    load_whisper_reader,
)
from epo.training.vad import VadCollator, VadTrainer
from launch.clip_check import read_clips_first
from launch.training import check_words

Clips = list[tuple[Clip, Emotion]]
"""Labelled clips."""
Validate = Callable[[list[Dialogue]], dict[str, float]]
"""Returns further numbers of the validation split, or of a part of it, once the model is trained."""


@dataclass(frozen=True)
class Lesson:
    """What each of these is made from: a model, what it reads clips by, two splits of dialogues, and for how long.

    Attributes:
        recipe: with the keys of `launch.extractor.ExtractorRecipe`.
        num_samples: examples of the whole training.
    """

    recipe: Any
    args: TrainingArguments
    extractor: EmotionExtractor
    reader: ClipReader
    cache: ClipCache
    train: list[Dialogue]
    validation: list[Dialogue]
    num_samples: int

    def schedule(self, num_examples: int) -> ScheduledDataset:
        """Return the order in which so many examples are learnt from."""
        return ScheduledDataset(num_examples, self.num_samples, self.args.seed)


def labels_trainer(lesson: Lesson) -> tuple[Trainer, Validate]:
    """Return what trains the extractor on labels, and what else is to be validated: nothing."""
    clips = seen_of(lesson.recipe, labelled_clips(lesson.train))
    if not clips:
        raise DataError(
            f"{lesson.recipe.data}: no labelled clip of split 'train' has {lesson.recipe.modalities}; set modalities"
        )
    read_clips_first(
        (clip for clip, _ in (*clips, *seen_of(lesson.recipe, labelled_clips(lesson.validation)))),
        lesson.reader,
        lesson.cache,
    )
    trainer = ExtractorTrainer(
        model=lesson.extractor,
        args=lesson.args,
        train_dataset=lesson.schedule(len(clips)),
        data_collator=ClipCollator(clips, lesson.reader, lesson.cache, lesson.recipe.modality_dropout),
    )
    return trainer, lambda _: {}


def vad_trainer(lesson: Lesson) -> tuple[Trainer, Validate]:
    """Return what trains the extractor on labels and ratings, and what tells the concordance of the latter."""
    taught, unseen = (_rated_of(lesson.recipe, split) for split in (lesson.train, lesson.validation))
    if sum(one.vad is not None for one in taught) < 2:
        raise DataError(
            f"{lesson.recipe.data}: fewer than two rated clips of split 'train' have {lesson.recipe.modalities}"
        )
    read_clips_first((one.clip for one in (*taught, *unseen)), lesson.reader, lesson.cache)
    trainer = VadTrainer(
        model=lesson.extractor,
        args=lesson.args,
        train_dataset=lesson.schedule(len(taught)),
        data_collator=VadCollator(taught, lesson.reader, lesson.cache, lesson.recipe.modality_dropout),
        vad_weight=lesson.recipe.vad_weight,
    )

    def validate(dialogues: list[Dialogue]) -> dict[str, float]:
        rated = _rated_of(lesson.recipe, dialogues)
        found = vad_concordance(lesson.extractor, rated, lesson.reader, lesson.cache)
        return {name: value for name, value in found.items() if value is not None}

    return trainer, validate


def face_trainer(lesson: Lesson) -> tuple[Trainer, Validate]:
    """Return what trains the face on descriptions, with labels or without, and what validates it by descriptions."""
    assert lesson.recipe.llm is not None and lesson.recipe.descriptions is not None
    taught, unseen = described_clips(lesson.train), described_clips(lesson.validation)
    read_clips_first((one.clip for one in (*taught, *unseen)), lesson.reader, lesson.cache)
    tokenizer = load_tokenizer(lesson.recipe.llm, ())
    video_token_id = add_placeholders(tokenizer)["video_token_id"]
    check_words(tokenizer, ((lesson.recipe.descriptions, str(one.description)) for one in (*taught, *unseen)))
    llm = load_llm(lesson.recipe.llm, "bfloat16" if lesson.args.bf16 else "float32")
    captioner = FaceCaptioner(lesson.extractor, llm)
    trainer = FaceTrainer(
        model=captioner,
        args=lesson.args,
        train_dataset=lesson.schedule(len(taught)),
        data_collator=CaptionCollator(taught, lesson.reader, lesson.cache, tokenizer),
        llm=llm,
        video_token_id=video_token_id,
        description_weight=lesson.recipe.description_weight,
        label_weight=lesson.recipe.label_weight,
    )

    def validate(dialogues: list[Dialogue]) -> dict[str, float]:
        clips = described_clips(dialogues)
        collate = CaptionCollator(clips, lesson.reader, lesson.cache, tokenizer)
        nll = mean_description_nll(captioner, llm, video_token_id, collate, len(clips))
        return {} if nll is None else {"description_nll": nll}

    return trainer, validate


def speech_trainer(lesson: Lesson) -> tuple[Trainer, Validate]:
    """Return what trains the sound on emotions and words, and what counts wrong words, before and after."""
    taught, unseen = spoken_clips(lesson.train), spoken_clips(lesson.validation)
    if not taught:
        raise DataError(
            f"{lesson.recipe.data}: no user turn of split 'train' has a clip with sound, so asr_weight has no words"
        )
    read_clips_first((one.clip for one in (*taught, *unseen)), lesson.reader, lesson.cache)
    texts = [str(one.words) for one in taught]
    words: WordReader | None = load_whisper_reader(lesson.recipe.audio_encoder, lesson.recipe.asr_language)
    if words is None:
        config = lesson.extractor.config.audio_config
        words = CtcReader(hearing_of(config).width(config), texts)
    learner = SpeechLearner(lesson.extractor, words)

    def errors(spoken: list[TaughtClip]) -> dict[str, float | None]:
        learner.eval()
        said: list[str] = []
        for start in range(0, len(spoken), 16):
            batch = lesson.reader.batch(
                [lesson.reader.read(one.clip, lesson.cache) for one in spoken[start : start + 16]]
            )
            said += learner.read({name: tensor.to(lesson.extractor.device) for name, tensor in batch.items()})
        wanted = [str(one.words) for one in spoken]
        return {
            "word_error": word_error_rate(said, wanted), "character_error": character_error_rate(said, wanted),
        }  # fmt: skip

    before = {f"{name}_before": rate for name, rate in errors(unseen).items()}
    trainer = SpeechTrainer(
        model=learner,
        args=lesson.args,
        train_dataset=lesson.schedule(len(taught)),
        data_collator=WordsCollator(taught, lesson.reader, lesson.cache),
        asr_weight=lesson.recipe.asr_weight,
    )

    def validate(dialogues: list[Dialogue]) -> dict[str, float]:
        found = (before if dialogues is lesson.validation else {}) | errors(spoken_clips(dialogues))
        return {name: rate for name, rate in found.items() if rate is not None}

    return trainer, validate


def _seen(recipe: Any, clip: Clip) -> Clip | None:
    """Return a clip with those halves alone that the recipe reads, None where it has none of them."""
    if recipe.modalities == "audio":
        return None if clip.audio is None else replace(clip, video=None)
    if recipe.modalities == "video":
        return None if clip.video is None else replace(clip, audio=None)
    return clip


def seen_of(recipe: Any, clips: Clips) -> Clips:
    """Return labelled clips with those halves alone that the recipe reads, and without those that have none of them."""
    return [(seen, emotion) for clip, emotion in clips if (seen := _seen(recipe, clip)) is not None]


def _rated_of(recipe: Any, dialogues: list[Dialogue]) -> list[TaughtClip]:
    clips = clips_to_recognise(dialogues)
    return [replace(one, clip=seen) for one in clips if (seen := _seen(recipe, one.clip)) is not None]


__all__ = ["Clips", "Lesson", "Validate", "face_trainer", "labels_trainer", "seen_of", "speech_trainer", "vad_trainer"]

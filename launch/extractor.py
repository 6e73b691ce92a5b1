"""Train the Audio-Visual Emotion Extractor on labelled clips: `launch/extractor.py --config FILE`."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from transformers import Trainer, TrainingArguments, set_seed

from launch import stage
from compressor.curriculum import ScheduledDataset
from compressor.seams import gathered_state, load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError, Dialogue
from epo.data.selection import (
    clips_of_split,
    described_clips,
    described_clips_of_split,
    labelled_clips,
    spoken_clips,
)
from epo.emotions import Emotion
from epo.evaluation.recognition import recognise
from epo.evaluation.word_error import character_error_rate, word_error_rate
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.hearing import hearing_of
from epo.model.loading import load_part
from epo.model.parts import build_extractor, load_llm, load_tokenizer
from epo.model.saving import save_weights
from epo.prompts.marks import add_placeholders
from epo.training.collate import ClipCollator
from epo.training.face_captions import CaptionCollator, FaceCaptioner, FaceTrainer, mean_description_nll
from epo.training.lora import freeze_all_but
from epo.training.sft import ExtractorTrainer
from epo.training.speech_words import (
    CtcReader,
    SpeechLearner,
    SpeechTrainer,
    WordReader,
    WordsCollator,
    load_whisper_reader,
)
from launch.clip_check import read_clips_first
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import BatchKeys, ClipsKeys, DataKeys, PartsKeys, StageRecipe
from launch.precision_check import require_precision
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run
from launch.training import check_words, fit, named, open_corpus, plan_batches

Clips = list[tuple[Clip, Emotion]]
"""Labelled clips."""
Validate = Callable[[], dict[str, float]]
"""Returns further numbers of the validation split, once the model is trained."""


@dataclass(kw_only=True)
class ExtractorRecipe(DataKeys, BatchKeys, ClipsKeys, PartsKeys, StageRecipe):
    """Train an audio encoder, a vision tower and their fusion to recognise the user's emotion."""

    audio_encoder: str = field(
        metadata={"help": "Whisper, wav2vec 2.0, HuBERT or WavLM: hub name, folder or config .json"}
    )
    vision_tower: str = field(metadata={"help": "CLIP, SigLIP, SigLIP 2, DINOv2 or ViT: the same"})
    hidden_size: int = field(default=128, metadata={"help": "width of the fusion"})
    num_heads: int = field(default=4, metadata={"help": "attention heads of temporal and fusion layers"})
    patch_grid: int = field(default=2, metadata={"help": "cells a side that a frame's patches are averaged over"})
    dropout: float = field(default=0.1, metadata={"help": "dropout of temporal and fusion layers"})
    augmentation: float = field(default=1.0, metadata={"help": "strength of the changes to clips, 0 for none"})
    modality_dropout: float = field(default=0.15, metadata={"help": "share of clips that lose audio or video"})
    max_audio_seconds: float = field(default=30.0, metadata={"help": "longest audio read of a clip"})
    video_fps: float = field(default=4.0, metadata={"help": "frames sampled a second"})
    max_frames: int = field(default=8, metadata={"help": "most frames of a clip"})
    face_detector: str = field(
        default="", metadata={"help": "cut frames to the face: YuNet .onnx, cascade .xml, or a cascade OpenCV brings"}
    )
    modalities: Literal["both", "audio", "video"] = field(
        default="both", metadata={"help": "which halves of clips are read; descriptions are learnt from the picture"}
    )
    extractor: str | None = field(
        default=None, metadata={"help": "extractor to go on with, of the same encoders and sizes; none: start anew"}
    )
    trainable: list[str] = field(
        default_factory=list, metadata={"help": "parts of parameter names that train; none: all"}
    )
    descriptions: str | None = field(
        default=None, metadata={"help": "descriptions.jsonl: teach the face by them, through a frozen language model"}
    )
    llm: str | None = field(default=None, metadata={"help": "that language model: folder or hub name"})
    description_weight: float = field(default=1.0, metadata={"help": "weight of the descriptions' loss"})
    label_weight: float = field(default=1.0, metadata={"help": "weight of the labels' loss beside it; 0: no labels"})
    asr_weight: float = field(
        default=0.0, metadata={"help": "weight of recognising the turns' words in the sound; 0: emotions alone"}
    )
    asr_language: str | None = field(
        default=None, metadata={"help": "of a Whisper of many languages, such as de; none: English"}
    )
    global_batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing beside others.

        Raises:
            RecipeError: names the key, the other one, and the remedy.
        """
        self._check_words()
        if self.descriptions is None:
            for key, default in (("llm", None), ("description_weight", 1.0), ("label_weight", 1.0)):
                if getattr(self, key) != default:
                    raise RecipeError(f"{key} would do nothing: name descriptions too, or leave it out")
            return
        if self.llm is None:
            raise RecipeError("llm: name the language model that descriptions are learnt through")
        if self.modalities != "video":
            raise RecipeError("descriptions: are learnt from the picture alone; set modalities: video")
        if self.modality_dropout != 0:
            raise RecipeError("modality_dropout would do nothing: a picture alone has no half to lose; set it to 0")
        if self.description_weight <= 0 or self.label_weight < 0:
            raise RecipeError(
                f"description_weight {self.description_weight} and label_weight {self.label_weight}: want one above 0 "
                "and one of 0 or more; leave descriptions out to learn from labels alone"
            )

    def _check_words(self) -> None:
        """Refuse words to be learnt where there is no sound, and keys of theirs where none are learnt."""
        if self.asr_weight < 0:
            raise RecipeError(f"asr_weight is {self.asr_weight}, want 0 or more")
        if self.asr_weight == 0 and self.asr_language is not None:
            raise RecipeError("asr_language would do nothing: set asr_weight above 0 too, or leave it out")
        if self.asr_weight > 0 and (self.modalities != "audio" or self.modality_dropout != 0):
            raise RecipeError(
                "asr_weight: words are learnt from the sound alone; set modalities: audio, modality_dropout: 0"
            )


RECIPES = [ExtractorRecipe, TrainingArguments]


def run() -> None:
    """Build the extractor, train it, report accuracy on the validation split, save it with its processors."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    out = Path(args.output_dir)
    num_samples = plan_batches(args, recipe.global_batch_size)
    dialogues = open_corpus(recipe.data, recipe.descriptions)
    by_split = {split: [d for d in dialogues if d.split == split] for split in ("train", "validation")}
    if recipe.descriptions is None:
        clips_of_split(dialogues, "train", recipe.data)
    else:
        described_clips_of_split(dialogues, "train", recipe.data)
    with open_folder(out, [recipe, args]) as folder:
        if not folder.is_done:
            _train(recipe, args, by_split["train"], by_split["validation"], num_samples, folder)


def _train(
    recipe: ExtractorRecipe,
    args: TrainingArguments,
    train: list[Dialogue],
    validation: list[Dialogue],
    num_samples: int,
    folder: StageFolder,
) -> None:
    out = folder.path
    set_seed(args.seed)
    load_models_whole()
    extractor, reader = _build(recipe)
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    held_out = _seen_of(recipe, labelled_clips(validation))
    with open_run("extractor", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        make = _labels_trainer if recipe.descriptions is None else _face_trainer
        make = _speech_trainer if recipe.asr_weight > 0 else make
        trainer, validate = make(recipe, args, extractor, reader, cache, train, validation, num_samples)
        trainer.add_callback(tracked.callback())
        results = named("train", fit(trainer))
        state = gathered_state(trainer)
        with whole_model(trainer):
            if stage.rank() == 0:
                if trainer.model is not extractor:  # what taught it stays behind
                    state = {n.removeprefix("extractor."): t for n, t in state.items() if n.startswith("extractor.")}
                save_weights(extractor.config, state, out)
                reader.save(out)
                clips, emotions = [clip for clip, _ in held_out], [emotion for _, emotion in held_out]
                results |= named("validation", recognise(extractor, clips, emotions, reader, cache) | validate())
                tracked.log_metrics(results)
                folder.finish(results)


def _build(recipe: ExtractorRecipe) -> tuple[EmotionExtractor, ClipReader]:
    """Build the extractor, or take up the one to go on with, and freeze what does not train.

    Raises:
        RecipeError: the one to go on with has other encoders or sizes, or nothing would train.
    """
    extractor, feature_extractor, image_processor = build_extractor(
        recipe.audio_encoder, recipe.vision_tower, sizes_of(recipe)
    )
    _check_length(recipe, extractor)
    if recipe.extractor is not None:
        before = load_part(recipe.extractor, EmotionExtractor, "launch/extractor.py")
        shapes = [{name: tensor.shape for name, tensor in one.state_dict().items()} for one in (before, extractor)]
        if shapes[0] != shapes[1]:
            other = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
            raise RecipeError(
                f"extractor: {recipe.extractor} has another {other[0]} than this recipe's encoders and sizes make; say "
                "those that it was made with"
            )
        extractor.load_state_dict(before.state_dict())
    if recipe.trainable:
        freeze_all_but(extractor, tuple(recipe.trainable))
        if not any(parameter.requires_grad for parameter in extractor.parameters()):
            raise RecipeError(f"trainable: no parameter of the extractor has one of {recipe.trainable} in its name")
    reader = ClipReader(
        feature_extractor,
        image_processor,
        recipe.max_audio_seconds,
        recipe.video_fps,
        recipe.max_frames,
        recipe.face_detector,
    )
    return extractor, reader


def _labels_trainer(
    recipe: ExtractorRecipe,
    args: TrainingArguments,
    extractor: EmotionExtractor,
    reader: ClipReader,
    cache: ClipCache,
    train: list[Dialogue],
    validation: list[Dialogue],
    num_samples: int,
) -> tuple[Trainer, Validate]:
    """Return what trains the extractor on labels, and what else is to be validated: nothing."""
    clips = _seen_of(recipe, labelled_clips(train))
    if not clips:
        raise DataError(f"{recipe.data}: no labelled clip of split 'train' has {recipe.modalities}; set modalities")
    read_clips_first((clip for clip, _ in (*clips, *_seen_of(recipe, labelled_clips(validation)))), reader, cache)
    trainer = ExtractorTrainer(
        model=extractor,
        args=args,
        train_dataset=ScheduledDataset(len(clips), num_samples, args.seed),
        data_collator=ClipCollator(clips, reader, cache, recipe.modality_dropout),
    )
    return trainer, dict


def _face_trainer(
    recipe: ExtractorRecipe,
    args: TrainingArguments,
    extractor: EmotionExtractor,
    reader: ClipReader,
    cache: ClipCache,
    train: list[Dialogue],
    validation: list[Dialogue],
    num_samples: int,
) -> tuple[Trainer, Validate]:
    """Return what trains the face on descriptions, with labels or without, and what validates it by descriptions."""
    assert recipe.llm is not None and recipe.descriptions is not None
    taught, unseen = described_clips(train), described_clips(validation)
    read_clips_first((one.clip for one in (*taught, *unseen)), reader, cache)
    tokenizer = load_tokenizer(recipe.llm, ())
    video_token_id = add_placeholders(tokenizer)["video_token_id"]
    check_words(tokenizer, ((recipe.descriptions, str(one.description)) for one in (*taught, *unseen)))
    llm = load_llm(recipe.llm, "bfloat16" if args.bf16 else "float32")
    captioner = FaceCaptioner(extractor, llm)
    trainer = FaceTrainer(
        model=captioner,
        args=args,
        train_dataset=ScheduledDataset(len(taught), num_samples, args.seed),
        data_collator=CaptionCollator(taught, reader, cache, tokenizer),
        llm=llm,
        video_token_id=video_token_id,
        description_weight=recipe.description_weight,
        label_weight=recipe.label_weight,
    )

    def validate() -> dict[str, float]:
        collate = CaptionCollator(unseen, reader, cache, tokenizer)
        nll = mean_description_nll(captioner, llm, video_token_id, collate, len(unseen))
        return {} if nll is None else {"description_nll": nll}

    return trainer, validate


def _speech_trainer(
    recipe: ExtractorRecipe,
    args: TrainingArguments,
    extractor: EmotionExtractor,
    reader: ClipReader,
    cache: ClipCache,
    train: list[Dialogue],
    validation: list[Dialogue],
    num_samples: int,
) -> tuple[Trainer, Validate]:
    """Return what trains the sound on emotions and words, and what counts wrong words, before and after."""
    taught, unseen = spoken_clips(train), spoken_clips(validation)
    if not taught:
        raise DataError(
            f"{recipe.data}: no user turn of split 'train' has a clip with sound, so asr_weight has no words"
        )
    read_clips_first((one.clip for one in (*taught, *unseen)), reader, cache)
    texts = [str(one.words) for one in taught]
    words: WordReader | None = load_whisper_reader(recipe.audio_encoder, recipe.asr_language)
    if words is None:
        config = extractor.config.audio_config
        words = CtcReader(hearing_of(config).width(config), texts)
    learner = SpeechLearner(extractor, words)

    def errors() -> dict[str, float | None]:
        learner.eval()
        said: list[str] = []
        for start in range(0, len(unseen), 16):
            batch = reader.batch([reader.read(one.clip, cache) for one in unseen[start : start + 16]])
            said += learner.read({name: tensor.to(extractor.device) for name, tensor in batch.items()})
        wanted = [str(one.words) for one in unseen]
        return {
            "word_error": word_error_rate(said, wanted), "character_error": character_error_rate(said, wanted),
        }  # fmt: skip

    before = errors()
    trainer = SpeechTrainer(
        model=learner,
        args=args,
        train_dataset=ScheduledDataset(len(taught), num_samples, args.seed),
        data_collator=WordsCollator(taught, reader, cache),
        asr_weight=recipe.asr_weight,
    )

    def validate() -> dict[str, float]:
        found = {f"{name}_before": rate for name, rate in before.items()} | errors()
        return {name: rate for name, rate in found.items() if rate is not None}

    return trainer, validate


def _seen_of(recipe: ExtractorRecipe, clips: Clips) -> Clips:
    """Return the clips with those halves alone that the recipe reads, and without those that have none of them."""
    if recipe.modalities == "both":
        return clips
    if recipe.modalities == "audio":
        return [(replace(clip, video=None), emotion) for clip, emotion in clips if clip.audio is not None]
    return [(replace(clip, audio=None), emotion) for clip, emotion in clips if clip.video is not None]


def sizes_of(recipe: Any) -> dict[str, Any]:
    """Return the fields of `ExtractorConfig` that a recipe says."""
    names = ("hidden_size", "num_heads", "patch_grid", "dropout", "augmentation", "max_frames")
    return {name: getattr(recipe, name) for name in names}


def _check_length(recipe: ExtractorRecipe, extractor: EmotionExtractor) -> None:
    """Refuse more audio than the encoder has positions for.

    Raises:
        RecipeError: `max_audio_seconds` is too long.
    """
    config = extractor.config.audio_config
    longest = hearing_of(config).longest_s(config)
    if recipe.max_audio_seconds > longest:
        raise RecipeError(
            f"max_audio_seconds is {recipe.max_audio_seconds}, but {recipe.audio_encoder} reads {longest:g}"
        )


if __name__ == "__main__":
    stage.main(run)

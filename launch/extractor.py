"""Train the Audio-Visual Emotion Extractor on labelled clips: `launch/extractor.py --config FILE`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import TrainingArguments, set_seed

from launch import stage
from compressor.seams import gathered_state, load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Dialogue
from epo.data.selection import (
    by_group,
    clips_of_split,
    described_clips_of_split,
    labelled_clips,
    rated_clips_of_split,
)
from epo.emotions import Emotion
from epo.evaluation.recognition import recognise
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.hearing import hearing_of
from epo.model.loading import load_part
from epo.model.parts import build_extractor
from epo.model.saving import save_weights
from epo.training.lora import freeze_all_but
from launch.extractor_trainers import Clips, Lesson, face_trainer, labels_trainer, seen_of, speech_trainer, vad_trainer
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import BatchKeys, ClipsKeys, DataKeys, PartsKeys, StageRecipe
from launch.precision_check import require_precision
from launch.recipe import RecipeError, read_recipe, require_rated_batches
from launch.tracking import open_run
from launch.training import fit, named, open_corpus, plan_batches


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
    vad_weight: float = field(
        default=0.0, metadata={"help": "weight of valence, arousal and dominance, of turns that have `vad`; 0: no head"}
    )
    global_batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing beside others.

        Raises:
            RecipeError: names the key, the other one, and the remedy.
        """
        self._check_words()
        self._check_vad()
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

    def _check_vad(self) -> None:
        """Refuse ratings to be learnt where another second loss is."""
        if self.vad_weight < 0:
            raise RecipeError(f"vad_weight is {self.vad_weight}, want 0 or more")
        other = "descriptions" if self.descriptions is not None else "asr_weight" if self.asr_weight > 0 else None
        if self.vad_weight > 0 and other is not None:
            raise RecipeError(
                f"vad_weight: is not learnt beside {other}; learn it last, from what comes out, named as `extractor`"
            )


RECIPES = [ExtractorRecipe, TrainingArguments]


def run() -> None:
    """Build the extractor, train it, report accuracy on the validation split, save it with its processors."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    out = Path(args.output_dir)
    require_rated_batches(recipe.vad_weight, args.per_device_train_batch_size)
    num_samples = plan_batches(args, recipe.global_batch_size)
    dialogues = open_corpus(recipe.data, recipe.descriptions)
    by_split = {split: [d for d in dialogues if d.split == split] for split in ("train", "validation")}
    if recipe.vad_weight > 0:
        rated_clips_of_split(dialogues, "train", recipe.data)
    elif recipe.descriptions is None:
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
    with open_run("extractor", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        make = labels_trainer if recipe.descriptions is None else face_trainer
        make = speech_trainer if recipe.asr_weight > 0 else make
        make = vad_trainer if recipe.vad_weight > 0 else make
        trainer, validate = make(Lesson(recipe, args, extractor, reader, cache, train, validation, num_samples))
        trainer.add_callback(tracked.callback())
        results = named("train", fit(trainer))
        state = gathered_state(trainer)
        with whole_model(trainer):
            if stage.rank() == 0:
                if trainer.model is not extractor:  # what taught it stays behind
                    state = {n.removeprefix("extractor."): t for n, t in state.items() if n.startswith("extractor.")}
                save_weights(extractor.config, state, out)
                reader.save(out)
                parts = {"validation": validation}
                parts |= {f"validation/{name}": own for name, own in by_group(validation).items()}
                for name, dialogues in parts.items():
                    clips = seen_of(recipe, labelled_clips(dialogues))
                    found = recognise(extractor, *_unzipped(clips), reader, cache) | validate(dialogues)
                    results |= named(name, found)
                    if dialogues is not validation:
                        print(f"{name}: {_briefly(found)}", flush=True)
                tracked.log_metrics(results)
                folder.finish(results)


def _unzipped(clips: Clips) -> tuple[list[Clip], list[Emotion]]:
    return [clip for clip, _ in clips], [emotion for _, emotion in clips]


def _briefly(found: Mapping[str, Any]) -> str:
    """Return the figures of one speaker in a line."""
    names = {"accuracy": "emotions right", "word_error": "word error", "character_error": "character error"}
    said = [f"{what} {found[name]:.2f}" for name, what in names.items() if name in found]
    return ", ".join([*said, f"{found['num_clips']} clips"] if "num_clips" in found else said)


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
        if extractor.vad_head is None:
            before.drop_vad_head()  # nothing would train it along
        heads = {name: tensor for name, tensor in extractor.state_dict().items() if name.startswith("vad_head.")}
        state = heads | before.state_dict()
        shapes = [{name: tensor.shape for name, tensor in one.items()} for one in (state, extractor.state_dict())]
        if shapes[0] != shapes[1]:
            other = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
            raise RecipeError(
                f"extractor: {recipe.extractor} has another {other[0]} than this recipe's encoders and sizes make; say "
                "those that it was made with"
            )
        extractor.load_state_dict(state)
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


def sizes_of(recipe: Any) -> dict[str, Any]:
    """Return the fields of `ExtractorConfig` that a recipe says."""
    names = ("hidden_size", "num_heads", "patch_grid", "dropout", "augmentation", "max_frames")
    return {name: getattr(recipe, name) for name in names} | {"has_vad": recipe.vad_weight > 0}


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

"""Train the Audio-Visual Emotion Extractor on labelled clips: `launch/extractor.py --config FILE`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainingArguments, set_seed

from launch import stage
from compressor.curriculum import ScheduledDataset
from compressor.seams import gathered_state, load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip
from epo.data.selection import clips_of_split, labelled_clips
from epo.emotions import Emotion
from epo.evaluation.recognition import recognise
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.hearing import hearing_of
from epo.model.parts import build_extractor
from epo.model.saving import save_weights
from epo.training.collate import ClipCollator
from epo.training.sft import ExtractorTrainer
from launch.clip_check import read_clips_first
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import BatchKeys, ClipsKeys, DataKeys, PartsKeys, StageRecipe
from launch.precision_check import require_precision
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run
from launch.training import fit, named, open_corpus, plan_batches

Clips = list[tuple[Clip, Emotion]]
"""Labelled clips."""


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
    global_batch_size: int = 16


RECIPES = [ExtractorRecipe, TrainingArguments]


def run() -> None:
    """Build the extractor, train it, report accuracy on the validation split, save it with its processors."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    out = Path(args.output_dir)
    num_samples = plan_batches(args, recipe.global_batch_size)
    dialogues = open_corpus(recipe.data)
    train = clips_of_split(dialogues, "train", recipe.data)
    validation = labelled_clips(d for d in dialogues if d.split == "validation")
    with open_folder(out, [recipe, args]) as folder:
        if not folder.is_done:
            _train(recipe, args, train, validation, num_samples, folder)


def _train(
    recipe: ExtractorRecipe,
    args: TrainingArguments,
    train: Clips,
    validation: Clips,
    num_samples: int,
    folder: StageFolder,
) -> None:
    out = folder.path
    set_seed(args.seed)
    load_models_whole()
    extractor, feature_extractor, image_processor = build_extractor(
        recipe.audio_encoder, recipe.vision_tower, sizes_of(recipe)
    )
    reader = ClipReader(
        feature_extractor,
        image_processor,
        recipe.max_audio_seconds,
        recipe.video_fps,
        recipe.max_frames,
        recipe.face_detector,
    )
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    _check_length(recipe, extractor)
    read_clips_first((clip for clip, _ in (*train, *validation)), reader, cache)
    with open_run("extractor", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        trainer = ExtractorTrainer(
            model=extractor,
            args=args,
            train_dataset=ScheduledDataset(len(train), num_samples, args.seed),
            data_collator=ClipCollator(train, reader, cache, recipe.modality_dropout),
            callbacks=[tracked.callback()],
        )
        results = named("train", fit(trainer))
        state = gathered_state(trainer)
        with whole_model(trainer):
            if stage.rank() == 0:
                save_weights(extractor.config, state, out)
                reader.save(out)
                clips, emotions = [clip for clip, _ in validation], [emotion for _, emotion in validation]
                results |= named("validation", recognise(extractor, clips, emotions, reader, cache))
                tracked.log_metrics(results)
                folder.finish(results)


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

"""The cascade's rows of an evaluation: from the recipe's folders to answers by text alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from compressor.seams import load_models_whole
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, read_dialogues
from epo.data.replies import Reply, replies_of
from epo.emotions import Emotion
from epo.evaluation.cascade import Cascade
from epo.evaluation.contestants import Generation
from epo.evaluation.recognition import predict_emotions
from epo.evaluation.suite import Answers, Task
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_model, load_part
from epo.model.parts import load_llm, load_tokenizer
from epo.prompts.text_prompts import TextPrompts


def cascade_rows(recipe: Any, task: Task, generation: Generation, device: torch.device) -> Iterator[Answers]:
    """Yield the rows that a recipe asks for, none where it names no cascade.

    Args:
        recipe: has the keys of `launch.evaluate.EvaluateRecipe` as attributes.
        task: of the evaluation; its words are those of the transcripts where the recipe names some.
        generation: how replies are generated.
        device: to answer on.
    """
    if recipe.cascade is None:
        return
    load_models_whole()
    tokenizer = load_tokenizer(recipe.cascade, ())
    llm = load_llm(recipe.cascade, recipe.dtype, recipe.quantize).to(device)
    gold, heard = task.gold, None
    if recipe.transcripts is not None:
        written = {(reply.dialogue_id, reply.turn): reply for reply in replies_of(read_dialogues(recipe.data), "all")}
        gold, heard = [written[reply.dialogue_id, reply.turn] for reply in task.gold], task.gold
    recognised = None
    if recipe.cascade_extractor is not None:
        recognised = _recognise(recipe, gold, device)
    yield from Cascade(llm, TextPrompts(tokenizer), generation).rows(gold, recognised, heard)


def _recognise(recipe: Any, gold: Sequence[Reply], device: torch.device) -> list[Emotion | None]:
    """Return the emotion of each current turn by its clip, None without one."""
    folder = Path(recipe.cascade_extractor)
    if (folder / "clip_reader.json").is_file():
        extractor = load_part(str(folder), EmotionExtractor, "launch/extractor.py")
        reader = ClipReader.load(folder)
    else:  # a whole model has one too, which was tuned with it
        model, processor = load_model(str(folder), recipe.dtype)
        extractor, reader = model.extractor, processor.clips
    extractor = extractor.to(device)
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    places = [i for i, reply in enumerate(gold) if reply.current.clip is not None]
    clips: list[Clip] = [reply.current.clip for reply in gold if reply.current.clip is not None]
    found: list[Emotion | None] = [None] * len(gold)
    for place, emotion in zip(places, predict_emotions(extractor, clips, reader, cache)["fused"], strict=True):
        found[place] = emotion
    return found


__all__ = ["cascade_rows"]

"""The courses of valence, arousal and dominance that an evaluation's own extractor measures in speech."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.evaluation.suite import Task
from epo.evaluation.vad_measuring import WINDOW_S, VadMeter
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.loading import load_part


def with_measured_courses(
    folder: str | None, cache_dir: str | None, task: Task, dialogues: Sequence[Dialogue], device: torch.device
) -> Task:
    """Return a task with the extractor that measures and what it measured of the turns answered and the gold replies.

    What `vad.jsonl` says of a turn stays; nothing is measured there.

    Args:
        folder: of the extractor; None returns the task as it is.
        cache_dir: of decoded clips, None to decode anew.
        task: of the evaluation.
        dialogues: that hold its replies.
        device: to measure on.
    """
    if folder is None:
        return task
    extractor = load_part(folder, EmotionExtractor, "launch/extractor.py").to(device)
    cache = ClipCache(None if cache_dir is None else Path(cache_dir))
    source = f"the extractor {folder}, {WINDOW_S:g} s a point (our choice)"
    meter = VadMeter(extractor, ClipReader.load(Path(folder)), source, cache)
    said = {(course.dialogue_id, course.turn) for course in task.vad if course.row is None}
    courses = meter.courses(task.gold, {dialogue.id: dialogue for dialogue in dialogues}, said)
    return replace(task, meter=meter, vad=[*task.vad, *courses])


__all__ = ["with_measured_courses"]

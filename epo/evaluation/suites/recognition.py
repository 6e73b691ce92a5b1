"""Recognition: how well extractors tell held-out clips' emotion, valence, arousal, dominance; beside the rows."""

from typing import TYPE_CHECKING, Any

from epo.evaluation.suite import Suite, Task

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Score the extractor of the first model tested, and the one that measures valence, arousal and dominance."""
    return _emotions(task, contestant) | _vad(task)


def _vad(task: Task) -> dict[str, Any]:
    if task.meter is None or not task.rated:
        return {}
    return {"vad_recognition": task.meter.concordance(task.rated) | {"source": task.meter.source}}


def _emotions(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    if contestant is None:
        return {}
    from epo.evaluation.recognition import recognise

    extractor, build = getattr(contestant.base, "extractor", None), contestant.build
    if extractor is None:
        return {"notes": [f"Suite recognition is left out: {contestant.name} has no extractor that names emotions."]}
    clips, emotions = [clip for clip, _ in task.clips], [emotion for _, emotion in task.clips]
    return {"emotion_recognition": recognise(extractor, clips, emotions, build.processor.clips, build.cache)}


SUITE = Suite(place=80, needs=("model", "clips"), summarise=summarise)

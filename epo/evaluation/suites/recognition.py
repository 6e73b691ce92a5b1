"""Recognition: how well the extractor tells the emotion of held-out clips; a table of its own beside the rows."""

from typing import TYPE_CHECKING, Any

from epo.evaluation.suite import Suite, Task

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Score the extractor of the first model tested."""
    if contestant is None:
        return {}
    from epo.evaluation.recognition import recognise

    extractor, build = getattr(contestant.base, "extractor", None), contestant.build
    if extractor is None:
        return {"notes": [f"Suite recognition is left out: {contestant.name} has no extractor that names emotions."]}
    clips, emotions = [clip for clip, _ in task.clips], [emotion for _, emotion in task.clips]
    return {"emotion_recognition": recognise(extractor, clips, emotions, build.processor.clips, build.cache)}


SUITE = Suite(place=80, needs=("model", "clips"), summarise=summarise)

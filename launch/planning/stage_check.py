"""The check of one stage before a pipeline starts: what it will have, and what is wrong with that."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from epo.data.dialogue import Dialogue, Turn
from launch.planning.pipeline_files import StageFiles
from launch.processes.ends import explain


@dataclass
class StageCheck:
    """What a stage will have, and what is wrong with that.

    Attributes:
        stage: its name in the pipeline.
        unit: what is counted.
        training: how many of them there are to learn from; None where the stage uses none or they are not known yet.
        validation: likewise.
        test: likewise.
        clips: how many of those it learns from, or tests on, can be heard or seen.
        labels: how many of them have an emotion.
        left_out: how many training replies a compressor leaves out, for they have no past turn.
        waits_for: the stage of this run that decides on the numbers: count again after it.
        is_upper_bound: the pairs have yet to be built; there will be that many at most.
        is_provisional: the numbers are of a file that `waits_for` may write anew.
        errors: why the stage cannot run.
        warnings: why its result may be poor.
    """

    stage: str
    unit: str = "replies"
    training: int | None = None
    validation: int | None = None
    test: int | None = None
    clips: int | None = None
    labels: int | None = None
    left_out: int = 0
    waits_for: str | None = None
    is_upper_bound: bool = False
    is_provisional: bool = False
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, action: Callable[..., Any], *arguments: Any, key: str | None = None) -> Any:
        """Return what an action returns; where the user is at fault, note the error under a key and return None."""
        try:
            return action(*arguments)
        except ValueError as error:
            if explain(error) is None:
                raise
            self.errors.append(str(error) if key is None else f"{key}: {error}")
            return None

    def tally(self, turns: Iterable[Turn], labelled: int) -> None:
        """Count the clips of the turns that are answered, and note how many labels there are."""
        self.clips = sum(turn.clip is not None for turn in turns)
        self.labels = labelled


def open_dialogues(check: StageCheck, data: str, files: StageFiles) -> list[Dialogue] | None:
    """Return the dialogues of a file, None where they are not known or faulty."""
    check.waits_for = files.undecided(data)
    check.is_provisional = check.waits_for is not None
    dialogues: list[Dialogue] | None = check.attempt(files.dialogues, data, key="data")
    return dialogues


__all__ = ["StageCheck", "open_dialogues"]

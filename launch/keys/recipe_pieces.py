"""Pieces of recipes: the keys that several stages have, each told once; a stage's recipe inherits the pieces it needs.

A recipe may give a key another default; its help stays that of the piece. The docstring is the heading in `--help`,
where pieces of one heading stand together.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from epo.data.replies import ReplyChoice
from epo.judging.judge import JudgeError
from epo.judging.opened_judge import JudgeSettings


@dataclass(kw_only=True)
class StageRecipe:
    """Run."""

    run: str | None = field(default=None, metadata={"help": "folder of the whole run, which values call ${run}"})
    pipeline: str = field(default="default", metadata={"help": "its name in MLflow; unless said, that of the folder"})
    experiment: str = field(default="epo", metadata={"help": "MLflow experiment"})
    fresh: bool = field(default=False, metadata={"help": "start anew; what output_dir holds is kept beside it"})

    @property
    def reads_clips(self) -> bool:
        """Whether recordings go into the result, and not only the words about them."""
        return True


@dataclass(kw_only=True)
class OutputKeys:
    """Run."""

    output_dir: str = field(metadata={"help": "folder of the results"})


@dataclass(kw_only=True)
class DataKeys:
    """Data."""

    data: str = field(metadata={"help": "dialogues.jsonl"})


@dataclass(kw_only=True)
class DescribedDataKeys(DataKeys):
    """Data."""

    descriptions: str | None = field(
        default=None, metadata={"help": "descriptions.jsonl, which the prompt part `description` tells"}
    )
    transcripts: str | None = field(
        default=None, metadata={"help": "transcripts.jsonl: user turns say what a recogniser heard"}
    )


@dataclass(kw_only=True)
class RepliesKeys:
    """Data."""

    replies: ReplyChoice = field(default="last", metadata={"help": "each dialogue's last one, or all"})


@dataclass(kw_only=True)
class ClipRepliesKeys(RepliesKeys):
    """Data."""

    require_clip: bool = field(default=False, metadata={"help": "only replies to a turn with a clip"})


@dataclass(kw_only=True)
class PromptKeys:
    """Prompts."""

    max_prompt_tokens: int = field(default=4096, metadata={"help": "oldest turns give way beyond it"})
    system_prompt: str = field(default="", metadata={"help": "first message of every prompt, the same in every stage"})


@dataclass(kw_only=True)
class HistoryKeys:
    """Prompts."""

    history_emotions: bool = field(
        default=False, metadata={"help": "past turns tell their emotion: `user (sad): words`; later stages follow"}
    )


@dataclass(kw_only=True)
class LoraKeys:
    """LoRA on the language model."""

    lora_rank: int = field(default=16, metadata={"help": "its rank"})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA's alpha (not the loss's)"})
    lora_variant: Literal["plain", "rslora", "dora"] = field(
        default="plain",
        metadata={"help": "its kind, in the words of PEFT"},
    )


@dataclass(kw_only=True)
class FittedJudgeKeys:
    """Judge of emotions in words."""

    judge_embeddings: str | None = field(default=None, metadata={"help": "sentence model of embeddings"})
    judge_data: list[str] = field(
        default_factory=list, metadata={"help": "labelled dialogues.jsonl files to fit and rate it on; none: data"}
    )
    judge_cache: str | None = field(default=None, metadata={"help": "folder for embeddings; none: embed anew"})


@dataclass(kw_only=True)
class JudgeKeys(FittedJudgeKeys):
    """Judge of emotions in words."""

    emotion_judge: str = field(
        default="words",
        metadata={"help": "words (of training replies), embeddings, or a text classifier's name"},
    )

    @property
    def judge(self) -> JudgeSettings:
        """The settings that these keys make.

        Raises:
            JudgeError: they lack one another, or one would do nothing.
        """
        return judge_settings(self)

    def require_judge_data(self) -> None:
        """Refuse files to fit a judge on that are not there, before anything is read.

        Raises:
            JudgeError: names the first.
        """
        for file in self.judge_data:
            if not Path(file).is_file():
                raise JudgeError(f"judge_data: {file}: no such file; want a dialogues.jsonl with labelled turns")


def judge_settings(recipe: Any) -> JudgeSettings:
    """Return the settings of a judge.

    Args:
        recipe: has the keys of `JudgeKeys` as attributes.

    Raises:
        JudgeError: they lack one another, or one would do nothing.
    """
    return JudgeSettings(recipe.emotion_judge, recipe.judge_embeddings, tuple(recipe.judge_data), recipe.judge_cache)


@dataclass(kw_only=True)
class WeightsKeys:
    """How it runs."""

    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of the weights"})
    quantize: Literal["none", "4bit", "8bit"] = field(
        default="none",
        metadata={"help": "linear layers of the language model in memory"},
    )


@dataclass(kw_only=True)
class PartsKeys:
    """How it runs."""

    parts_root: str | None = field(
        default=None, metadata={"help": "folder of models, FOLDER/name, that stands in for the hub"}
    )


@dataclass(kw_only=True)
class BatchKeys:
    """How it runs."""

    global_batch_size: int = field(default=8, metadata={"help": "examples a step, over all ranks and micro-batches"})


@dataclass(kw_only=True)
class ClipsKeys:
    """How it runs."""

    cache_dir: str | None = field(default=None, metadata={"help": "folder for decoded features; none: decode anew"})


@dataclass(kw_only=True)
class SeedKeys:
    """How it runs."""

    seed: int = field(default=0, metadata={"help": "of every draw"})


__all__ = [
    "BatchKeys",
    "ClipsKeys",
    "DataKeys",
    "DescribedDataKeys",
    "FittedJudgeKeys",
    "HistoryKeys",
    "JudgeKeys",
    "LoraKeys",
    "OutputKeys",
    "PartsKeys",
    "PromptKeys",
    "RepliesKeys",
    "ClipRepliesKeys",
    "SeedKeys",
    "StageRecipe",
    "WeightsKeys",
    "judge_settings",
]

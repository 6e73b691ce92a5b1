"""Contestants: models under the name of a row, tested as they are or with clips and memories changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peft import PeftModel
from transformers import set_seed

from epo.evaluation import variants
from epo.evaluation.generate import Written, generate_written
from epo.evaluation.stress_tests import StressTest
from epo.evaluation.suite import Answers, Kind, Task
from epo.model.family import bare
from epo.ranks import gather_shares, rank, share
from epo.training.collate import PromptBuilder


@dataclass(frozen=True)
class Generation:
    """How replies are generated.

    Attributes:
        batch_size: prompts at a time on each rank.
        max_new_tokens: longest reply.
    """

    batch_size: int = 50
    max_new_tokens: int = 48


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One row to be: a model under a name.

    Attributes:
        name: of the row.
        model: a whole model, or a PEFT model around one.
        build: makes its prompts.
        reference: what its rewards are compared with; a PEFT model needs none, for it is compared with itself without
            its LoRA.
        kind: of the row.
        variant: what is changed of the replies to give.
        is_sampled: whether replies are drawn at temperature 1 too.
        num_draws: of a random variant, over which reward accuracy is averaged.
    """

    name: str
    model: Any
    build: PromptBuilder
    reference: Any = None
    kind: Kind = "main"
    variant: variants.Variant = variants.unchanged
    is_sampled: bool = True
    num_draws: int = 1

    @property
    def base(self) -> Any:
        """The whole model, without its LoRA around it."""
        return bare(self.model)

    @property
    def has_reference(self) -> bool:
        """Whether there is anything to compare its rewards with."""
        return self.reference is not None or isinstance(self.model, PeftModel)

    def changed(self) -> Iterator["Contestant"]:
        """Yield the same model tested with clips and memories changed, one change at a time."""
        for name, change in variants.CHANGES.items():
            yield replace(
                self,
                name=f"{self.name}, {name}",
                kind="variant",
                variant=change,
                is_sampled=False,
                num_draws=variants.NUM_DRAWS.get(name, 1),
            )

    def stressed(self, tests: Sequence[StressTest]) -> Iterator["Contestant"]:
        """Yield the same model tested under other conditions, one at a time."""
        for test in tests:
            build = replace(self.build, damage=test.damage, tells_emotion=test.tells_emotion)
            yield replace(self, name=f"{self.name}, {test.name}", kind="variant", build=build, is_sampled=False)

    def repeats(self, task: Task) -> str | None:
        """Return which test this would be once more; None where it is one of its own."""
        damage, turns = self.build.damage, [reply.current for reply in task.gold]
        clips = [turn.clip for turn in turns if turn.clip is not None]
        says_it = hasattr(getattr(self.base, "config", None), "emotion_token_id")
        is_told = says_it and any(turn.clip is not None and turn.emotion is not None for turn in turns)
        is_as_it_is = (
            (self.build.tells_emotion and not is_told)
            or (damage is not None and damage.snr_db is not None and all(clip.audio is None for clip in clips))
            or (damage is not None and damage.blur_percent is not None and all(clip.video is None for clip in clips))
        )
        return "the test as it is" if is_as_it_is else variants.same_as(self.variant, task.gold, task.seed)

    def prompts(self, task: Task) -> list[Any]:
        """Return this rank's share of the prompts that are answered."""
        return [self.build(reply) for reply in share(self.variant(task.gold, task.seed))]

    def answer(self, task: Task, generation: Generation) -> Answers:
        """Answer greedily, and at temperature 1 where it is sampled; every rank does its share and gets all."""
        prompts = self.prompts(task)

        def draw(temperature: float) -> list[Written]:
            set_seed((task.seed + rank()) % 2**32)
            mine = generate_written(
                self.model,
                self.build.processor,
                prompts,
                generation.batch_size,
                generation.max_new_tokens,
                temperature,
                label=self.name,
            )
            return gather_shares(mine)

        greedy = draw(0.0)
        sampled = [written.reply for written in draw(1.0)] if self.is_sampled else None
        thinks = getattr(self.build.processor, "think", "none") != "none"
        thoughts = [written.thought for written in greedy] if thinks else None
        replies = [written.reply for written in greedy]
        return Answers(self.name, replies, sampled, self, self.kind, prompts, thoughts=thoughts)


__all__ = ["Contestant", "Generation"]

"""Source `policy`: the tuned model itself answers, made to begin with the label of the counter emotion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compressor.progress import Progress
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.answer_cache import AnswerCache, question_key
from epo.preferences.source import PairSource, SourceContext, SourceError

Writer = Callable[[Sequence[Reply], Sequence[Emotion], int], list[str]]
"""(gold replies, emotions to begin with, seed) -> the words written in their places, without the label."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Keys of source `policy`."""

    policy_model: str = field(default="", metadata={"help": "folder written by launch/sft.py", "role": "part"})
    policy_temperature: float = field(default=0.7, metadata={"help": "of sampling; 0: most likely words"})
    policy_max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    policy_batch_size: int = field(default=32, metadata={"help": "replies at a time", "role": "layout"})
    policy_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of the weights"})
    cache_dir: str | None = field(
        default=None, metadata={"help": "folder for decoded features; none: decode anew", "role": "cosmetic"}
    )

    def __post_init__(self) -> None:
        """Refuse to let nobody answer."""
        if self.policy_model == "":
            raise SourceError("source policy wants policy_model, a folder written by launch/sft.py")


class PolicySource:
    """Lets a model write in batches and keeps every finished batch: a killed run goes on where it was.

    What the model would say itself, only in the wrong emotion, is the nearest rejected reply there is; but it is only
    as divergent as the model heeds its own label: look at `emotion_divergence`.
    """

    name = "policy"

    def __init__(self, write: Writer, identity: str, cache: AnswerCache, batch_size: int, seed: int) -> None:
        """Prepare, without loading anything.

        Args:
            write: writes one batch; the same arguments must give the same words.
            identity: what the words depend on besides the arguments: the model and how it is sampled.
            cache: words of earlier runs, and of this one.
            batch_size: replies written at a time.
            seed: of sampling.
        """
        self._write = write
        self._identity = identity
        self._cache = cache
        self._batch_size = batch_size
        self._seed = seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be asked for."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one reply for each gold reply and counter emotion; none where the model wrote nothing."""
        found: list[list[str]] = []
        progress = Progress("policy", len(gold), "replies")
        for start in range(0, len(gold), self._batch_size):
            part = slice(start, start + self._batch_size)
            found += [[text] if text.strip() else [] for text in self._batch(gold[part], emotions[part])]
            progress.advance(len(gold[part]))
        progress.close()
        return found

    def _batch(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[str]:
        """Return the words of one batch, all from the cache or all written anew: sampling depends on the batch."""
        rows = [[reply.dialogue_id, reply.turn, emotion] for reply, emotion in zip(gold, emotions, strict=True)]
        # The batch is part of each key, or a run with another batch size would mix its words with these.
        keys = [question_key(identity=self._identity, seed=self._seed, batch=rows, place=i) for i in range(len(rows))]
        known = [text for key in keys if (text := self._cache.get(key)) is not None]
        if len(known) == len(keys):
            return known
        texts = self._write(gold, emotions, int(keys[0][:8], 16))
        for key, text in zip(keys, texts, strict=True):
            self._cache.put(key, text)
        return texts


def _make(settings: PolicySettings, context: SourceContext) -> PolicySource:
    weights = sorted(Path(settings.policy_model).glob("*.safetensors"))
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    identity = f"{stamps} plain {settings.policy_temperature} {settings.policy_max_new_tokens} {settings.policy_dtype}"
    cache = AnswerCache(context.folder / "policy_cache.jsonl")
    return PolicySource(_load_writer(settings), identity, cache, settings.policy_batch_size, context.seed)


def _load_writer(settings: PolicySettings) -> Writer:
    """Load the model, and return what lets it write one batch."""
    import torch
    from transformers import set_seed

    from epo.data.cache import ClipCache
    from epo.evaluation.generate import generate_replies
    from epo.model.heard_emotions import heard_emotions_of
    from epo.model.loading import load_model
    from epo.prompts.emotion_label import label, split_reply
    from epo.training.collate import PromptBuilder

    model, processor = load_model(settings.policy_model, settings.policy_dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    cache = ClipCache(None if settings.cache_dir is None else Path(settings.cache_dir))
    build = PromptBuilder(processor, cache, heard_emotions_of(model, processor, cache))

    def write(gold: Sequence[Reply], emotions: Sequence[Emotion], seed: int) -> list[str]:
        set_seed(seed)
        replies = generate_replies(
            model,
            processor,
            [build(reply) for reply in gold],
            len(gold),
            settings.policy_max_new_tokens,
            settings.policy_temperature,
            [label(emotion).rstrip() for emotion in emotions],
        )
        return [split_reply(reply)[1] for reply in replies]

    return write


SOURCE = PairSource(
    about="the tuned model's own reply, made to begin with the counter emotion's label",
    settings=PolicySettings,
    make=_make,
    reads_clips=True,
)

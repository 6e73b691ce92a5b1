"""Policy writer: a tuned model answers in batches, and every finished batch is kept, so a killed run goes on."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compressor.progress import Progress
from epo.asking.answer_cache import AnswerCache, question_key
from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.preferences.source import SourceContext, SourceError

Writer = Callable[[Sequence[Reply], Sequence[Emotion | None], int], list[str]]
"""(gold replies, emotions to begin with, None where the model chooses, seed) -> what is said in their places."""


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """Keys of the sources in which a tuned model writes."""

    policy_model: str = field(default="", metadata={"help": "folder written by launch/sft.py", "role": "part"})
    policy_adapter: str | None = field(
        default=None, metadata={"help": "folder written by launch/epo.py on that model; none: as it is", "role": "part"}
    )
    policy_temperature: float = field(default=0.7, metadata={"help": "of sampling; 0: most likely words"})
    policy_max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    policy_batch_size: int = field(default=32, metadata={"help": "replies at a time", "role": "layout"})
    policy_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of the weights"})
    cache_dir: str | None = field(
        default=None, metadata={"help": "folder for decoded features; none: decode anew", "role": "cosmetic"}
    )

    def require_model(self, source: str) -> None:
        """Refuse to let nobody answer.

        Raises:
            SourceError: no model is named.
        """
        if self.policy_model == "":
            raise SourceError(f"source {source} wants policy_model, a folder written by launch/sft.py")


@dataclass(frozen=True)
class Asked:
    """One reply that a model is asked for.

    Attributes:
        reply: in whose place it answers.
        emotion: whose label it must begin with; None where it chooses its own.
        number: which of several samples in this place it is.
    """

    reply: Reply
    emotion: Emotion | None = None
    number: int = 0

    @property
    def row(self) -> list[str | int | None]:
        """What a key in the cache says of it."""
        return [self.reply.dialogue_id, self.reply.turn, self.emotion, *([self.number] if self.number else [])]


class PolicyWriter:
    """Writes what is asked for, a batch at a time, and remembers what it wrote."""

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

    def write(self, asked: Sequence[Asked], label: str) -> list[str]:
        """Return what the model says in each place, its label first where it says one.

        Args:
            asked: what is asked for, in the order in which batches are made.
            label: under which name progress is shown.
        """
        found: list[str] = []
        progress = Progress(label, len(asked), "replies")
        for start in range(0, len(asked), self._batch_size):
            batch = asked[start : start + self._batch_size]
            found += self._batch(batch)
            progress.advance(len(batch))
        progress.close()
        return found

    def _batch(self, asked: Sequence[Asked]) -> list[str]:
        """Return the words of one batch, all from the cache or all written anew: sampling depends on the batch."""
        rows = [one.row for one in asked]
        # The batch is part of each key, or a run with another batch size would mix its words with these.
        keys = [question_key(identity=self._identity, seed=self._seed, batch=rows, place=i) for i in range(len(rows))]
        known = [text for key in keys if (text := self._cache.get(key)) is not None]
        if len(known) == len(keys):
            return known
        texts = self._write([one.reply for one in asked], [one.emotion for one in asked], int(keys[0][:8], 16))
        for key, text in zip(keys, texts, strict=True):
            self._cache.put(key, text)
        return texts


def open_writer(settings: WriterSettings, context: SourceContext, name: str) -> PolicyWriter:
    """Load a source's model, and return what lets it write.

    Args:
        settings: of the source.
        context: has the folder where words are kept.
        name: of the source.

    Raises:
        PartError: the model or the adapter cannot be loaded, or they do not fit each other.
    """
    folders = [folder for folder in (settings.policy_model, settings.policy_adapter) if folder is not None]
    weights = [file for folder in folders for file in sorted(Path(folder).glob("*.safetensors"))]
    digests = [_digest(file) for file in weights]  # by content, so that whoever trains the same samples the same
    identity = f"{digests} plain {settings.policy_temperature} {settings.policy_max_new_tokens} {settings.policy_dtype}"
    cache = AnswerCache(context.folder / f"{name}_cache.jsonl")
    return PolicyWriter(_load(settings), identity, cache, settings.policy_batch_size, context.seed)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(settings: WriterSettings) -> Writer:
    """Load the model, and return what lets it write one batch."""
    import torch
    from transformers import set_seed

    from epo.data.cache import ClipCache
    from epo.evaluation.generate import generate_replies
    from epo.model.heard_emotions import heard_emotions_of
    from epo.model.loading import load_adapter, load_model
    from epo.prompts.emotion_label import label
    from epo.training.collate import PromptBuilder

    whole, processor = load_model(settings.policy_model, settings.policy_dtype)
    cache = ClipCache(None if settings.cache_dir is None else Path(settings.cache_dir))
    build = PromptBuilder(processor, cache, heard_emotions_of(whole, processor, cache))
    model = whole if settings.policy_adapter is None else load_adapter(whole, settings.policy_adapter)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def write(gold: Sequence[Reply], emotions: Sequence[Emotion | None], seed: int) -> list[str]:
        set_seed(seed)
        return generate_replies(
            model,
            processor,
            [build(reply) for reply in gold],
            len(gold),
            settings.policy_max_new_tokens,
            settings.policy_temperature,
            [label(emotion).rstrip() for emotion in emotions],
        )

    return write


__all__ = ["Asked", "WriterSettings", "PolicyWriter", "Writer", "open_writer"]

"""Collators: rows of a schedule or pairs of preferences become batches of tensors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compressor.curriculum import Curriculum, RelevantTurns
from compressor.text import IGNORE, pad_right
from epo.data.cache import ClipCache
from epo.data.clip_damage import ClipDamage
from epo.data.dialogue import Clip, DataError, Turn
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.family import ClipSource, DialogueProcessor
from epo.preferences.pair import PreferencePair
from epo.prompts.text_prompts import TextPrompts


def drop_modality(clip: ClipFeatures, rng: np.random.Generator, chance: float) -> ClipFeatures:
    """Hide the audio or the video of a clip that has both, each with half the chance (our choice)."""
    draw = rng.random()
    if clip.audio is None or clip.video is None or draw >= chance:
        return clip
    return ClipFeatures(None, clip.video) if draw < chance / 2 else ClipFeatures(clip.audio, None)


def emotion_labels(emotions: Sequence[Emotion | None]) -> Tensor:
    """Return int64 (B,), the index of each emotion in `EMOTIONS`, `IGNORE` where unknown."""
    return torch.tensor([IGNORE if e is None else EMOTIONS.index(e) for e in emotions])


class ClipCollator:
    """Batches of labelled clips for the extractor."""

    def __init__(
        self,
        clips: Sequence[tuple[Clip, Emotion]],
        reader: ClipReader,
        cache: ClipCache,
        modality_dropout: float = 0.0,
    ) -> None:
        self._clips, self._reader, self._cache = clips, reader, cache
        self._modality_dropout = modality_dropout

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build the inputs of `EmotionExtractor.forward` and `emotions` (B,) from schedule rows."""
        features = []
        for row in rows:
            clip = self._reader.read(self._clips[row["index"]][0], self._cache)
            features.append(drop_modality(clip, np.random.default_rng(row["seed"]), self._modality_dropout))
        emotions = emotion_labels([self._clips[row["index"]][1] for row in rows])
        return self._reader.batch(features) | {"emotions": emotions}


class TextCollator:
    """Batches of whole dialogues as text, for a language model that has nothing to hear or see yet.

    Half of the current turns are preceded by the user's emotion as a word, where it is known; a clip's emotion
    token later stands in that place. All tokens are learnt, the reply with full weight.
    """

    def __init__(
        self,
        replies: Sequence[Reply],
        prompts: TextPrompts,
        curriculum: Curriculum,
        history_weight: float,
    ) -> None:
        self._replies, self._prompts, self._curriculum = replies, prompts, curriculum
        self._history_weight = history_weight
        self._relevant = RelevantTurns(turn.text for reply in replies for turn in reply.history)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build `input_ids`, `labels`, `loss_weights`, each (B, T), from schedule rows."""
        pairs = [self._encode(row) for row in rows]
        inputs = pad_right([prompt + reply for prompt, reply in pairs], 0)
        labels = pad_right([prompt + reply for prompt, reply in pairs], IGNORE)
        weights = torch.zeros(inputs.shape)
        for row, (prompt, reply) in enumerate(pairs):
            weights[row, : len(prompt)] = self._history_weight
            weights[row, len(prompt) : len(prompt) + len(reply)] = 1.0
        return {"input_ids": inputs, "labels": labels, "loss_weights": weights}

    def _encode(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        reply = self._replies[row["index"]]
        num_turns = self._curriculum.num_turns(row["progress"])
        kept = self._relevant.pick([turn.text for turn in reply.history], reply.text, num_turns)
        prompt = self._prompts.encode_prompt(reply, names_emotion=row["seed"] % 2 == 0, kept=kept)
        return prompt, self._prompts.encode_reply(reply)


@dataclass(frozen=True)
class PromptBuilder:
    """Makes the prompt of a reply, its clip decoded through the cache.

    Attributes:
        processor: whose prompts they are.
        cache: of decoded clips.
        hear: returns past turns with the emotions that are told of them at inference (`epo.model.heard_emotions`);
            None tells those that the dialogues give, as in training.
        damage: what is done to clips before they are heard and seen.
        tells_emotion: whether the emotion token says what the user's turn is labelled with, not what is heard and seen.
    """

    processor: DialogueProcessor
    cache: ClipCache
    hear: Callable[[Sequence[Turn]], Sequence[Turn]] | None = None
    damage: ClipDamage | None = None
    tells_emotion: bool = False

    @cached_property
    def _reader(self) -> ClipSource:
        clips: Any = self.processor.clips
        source: ClipSource = clips if self.damage is None else replace(clips, damage=self.damage)
        return source

    def __call__(self, reply: Reply, drop: float = 0.0, seed: int = 0) -> Any:
        """Return the prompt, a `FamilyPrompt`, hiding one modality with chance `drop`.

        Raises:
            DataError: the current turn does not fit, or its clip cannot be read; names the dialogue.
        """
        return self.with_clip(reply, drop_modality(self.read(reply), np.random.default_rng(seed), drop))

    def read(self, reply: Reply) -> ClipFeatures:
        """Return the features of the clip of the turn that a reply answers.

        Raises:
            DataError: the clip cannot be read; names the dialogue.
        """
        with _placed(reply):
            features = self._reader.read(reply.current.clip, self.cache)
        turn = reply.current
        if not self.tells_emotion or turn.clip is None or turn.emotion is None:
            return features
        return replace(features, told=EMOTIONS.index(turn.emotion))

    def with_clip(self, reply: Reply, clip: ClipFeatures) -> Any:
        """Return the prompt of a reply with these features of a clip, its own or another's.

        Raises:
            DataError: the current turn does not fit; names the dialogue.
        """
        with _placed(reply):
            history = reply.history if self.hear is None else self.hear(reply.history)
            return self.processor.encode_prompt(history, reply.current, clip)


@contextmanager
def _placed(reply: Reply) -> Iterator[None]:
    """Name the dialogue and the turn where something about them is wrong."""
    try:
        yield
    except DataError as error:
        raise DataError(f"dialogue {reply.dialogue_id!r}, turn {reply.turn - 1}: {error}") from error


class SftCollator:
    """Batches of prompts with memories and clips, and what is to be written: a thought, if any, and the labelled reply.

    Where the whole clip is left out, so is the thought.
    """

    def __init__(
        self,
        replies: Sequence[Reply],
        build: PromptBuilder,
        modality_dropout: float = 0.0,
        clip_dropout: float = 0.0,
    ) -> None:
        self._replies, self._build = replies, build
        self._modality_dropout, self._clip_dropout = modality_dropout, clip_dropout

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build the model's inputs, `labels` (B, T) and `emotions` (B,) from schedule rows."""
        replies = [self._reply(row) for row in rows]
        prompts = [self._build(e, self._modality_dropout, r["seed"]) for e, r in zip(replies, rows, strict=True)]
        processor = self._build.processor
        said = [
            thought_ids(processor, reply.current) + processor.encode_reply(reply.text, reply.emotion)
            for reply in replies
        ]
        batch = pad_rows([p.input_ids for p in prompts], said)
        emotions = emotion_labels([e.current.emotion if e.current.clip is not None else None for e in replies])
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
        return batch | processor.batch_context(prompts) | {"labels": labels, "emotions": emotions}

    def _reply(self, row: dict[str, Any]) -> Reply:
        """Leave out the whole clip now and then, so that the model can also answer without one."""
        reply: Reply = self._replies[row["index"]]
        if np.random.default_rng((row["seed"], 1)).random() < self._clip_dropout:
            return replace(reply, current=replace(reply.current, clip=None))
        return reply


def thought_ids(processor: Any, current: Turn) -> list[int]:
    """Return the ids of what a model is to think of a turn; none in a family that knows no thoughts."""
    encode: Callable[[Turn], list[int]] | None = getattr(processor, "encode_thought", None)
    return [] if encode is None else encode(current)


def pad_rows(prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> dict[str, Tensor]:
    """Join prompts and replies, right-padded: `input_ids`, `attention_mask`, `completion_mask`, int64 (B, T)."""
    pairs = list(zip(prompts, replies, strict=True))
    return {
        "input_ids": pad_right([prompt + reply for prompt, reply in pairs], 0),
        "attention_mask": pad_right([[1] * (len(prompt) + len(reply)) for prompt, reply in pairs], 0),
        "completion_mask": pad_right([[0] * len(prompt) + [1] * len(reply) for prompt, reply in pairs], 0),
    }


def labelled(batch: dict[str, Any]) -> dict[str, Any]:
    """Return what a model is given of a batch so that it scores the replies; what only tells of pairs stays behind.

    Args:
        batch: `input_ids`, `completion_mask` (B, T) and the tensors behind the placeholders.
    """
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORE)
    inputs = {key: value for key, value in batch.items() if key not in ("completion_mask", "has_other")}
    return inputs | {"labels": labels, "use_cache": False, "fused_lm_head": True}


class KeptBatches(Protocol):
    """Where prompts of pairs are found that were encoded before (`epo.training.kept_prompts`)."""

    def batch(self, indices: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Return the ids of pairs' prompts, and what stands at their placeholders, for the model's forward."""


class PairCollator:
    """Batches of preference pairs in TRL's layout: B rows with the chosen, then B rows with the rejected reply.

    Of a model that thinks, the thought that the data give stands at the end of the prompt, the same for both replies:
    it is given, so neither the preference nor the NLL of the gold reply teaches it (our choice).
    """

    def __init__(self, pairs: Sequence[PreferencePair], build: PromptBuilder) -> None:
        """Collate pairs.

        Args:
            pairs: all of them; rows name them by index.
            build: makes the prompts.
        """
        self.pairs, self.build = pairs, build
        self._kept: KeptBatches | None = None

    @property
    def processor(self) -> DialogueProcessor:
        """Whose prompts these are."""
        return self.build.processor

    def keep(self, kept: KeptBatches) -> None:
        """Take prompts from elsewhere from now on, their clips and histories encoded: none is read any more."""
        self._kept = kept

    def longest(self, count: int) -> list[dict[str, Any]]:
        """Return the rows of the pairs with most text before their replies."""
        lengths = [sum(len(turn.text) for turn in (*p.reply.history, p.reply.current)) for p in self.pairs]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        return [{"index": i} for i in order[:count]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from `{"index": i}` rows; memories and clips come once a pair, as `prompt_lengths` says."""
        indices = [row["index"] for row in rows]
        ids, context = self.encode_prompts(indices) if self._kept is None else self._kept.batch(indices)
        batch = pad_rows(ids + ids, self.encode_replies(indices))
        return batch | context | {"prompt_lengths": torch.tensor([len(row) for row in ids])}

    def encode_prompts(self, indices: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Return the ids of pairs' prompts, thoughts too, and the tensors behind their placeholders."""
        replies, processor = [self.pairs[i].reply for i in indices], self.processor
        prompts = [self.build(reply) for reply in replies]
        thoughts = [thought_ids(processor, reply.current) for reply in replies]
        ids = [prompt.input_ids + thought for prompt, thought in zip(prompts, thoughts, strict=True)]
        return ids, processor.batch_context(prompts)

    def encode_replies(self, indices: list[int]) -> list[list[int]]:
        """Return the ids of pairs' chosen replies, then of their rejected ones."""
        pairs, encode = [self.pairs[i] for i in indices], self.processor.encode_reply
        chosen = [encode(pair.chosen, pair.chosen_emotion) for pair in pairs]
        return chosen + [encode(pair.rejected, pair.rejected_emotion) for pair in pairs]

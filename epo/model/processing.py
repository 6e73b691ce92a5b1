"""The processor: dialogues and clips in, prompts with placeholders and features out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, ProcessorMixin

from compressor.chat import ChatFormat, chat_format
from compressor.data import encode_turns
from compressor.fitting import PromptTooLong
from epo.data.dialogue import DataError, Turn
from epo.emotions import Emotion
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.configuration import EpoConfig
from epo.model.hearing import hearing_by
from epo.prompts.emotion_label import reply_text, split_reply
from epo.prompts.layout import LAYOUT, Layout
from epo.prompts.marks import refuse_marks
from epo.prompts.part import Asked
from epo.prompts.past_turns import utterance_of
from epo.prompts.thought import Think, thought_of, thought_text


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to be batched.

    Attributes:
        input_ids: the language model's ids, with placeholders.
        history_ids: the compressor's ids, turns with their memory slots; empty where there is no history.
        clip: the features behind the clip placeholders.
        num_history_tokens: tokens the history takes up in `input_ids`.
        memories: (M, D), what the compressor made of the history already, in the place of `history_ids`; None where
            it is still to read them.
    """

    input_ids: list[int]
    history_ids: list[int]
    clip: ClipFeatures
    num_history_tokens: int
    memories: Tensor | None = None


class EpoProcessor(ProcessorMixin):
    """Joins the language model's tokenizer, the compressor's, and the encoders' feature extractors.

    Args:
        feature_extractor: the audio encoder's.
        image_processor: the vision tower's.
        tokenizer: the language model's, knowing the placeholders.
        history_tokenizer: the compressor's own.
        history_vocab_size: `MambaCompressor.vocab_size`, where memory slots begin.
        num_memory_tokens: k.
        audio_stack: see `ExtractorConfig`.
        system_prompt: first message of every prompt, or empty for none.
        max_prompt_tokens: longest prompt; the oldest turns give way, media placeholders never.
        max_audio_seconds: longest audio read of a clip.
        video_fps: frames sampled a second.
        max_frames: most frames of a clip.
        face_detector: see `ClipReader`.
        prompt_parts: what the model's prompts consist of, in order (`epo.prompts.layout`); saved with it, so that
            every stage renders what training rendered.
        history_emotions: whether past turns tell their emotion, as the compressor was trained to read them.
        think: what the model writes of the user before its reply (`epo.prompts.thought`); saved with it likewise.
        **kwargs: other settings of `ProcessorMixin`, such as `chat_template`.
    """

    def __init__(
        self,
        feature_extractor: Any,
        image_processor: Any,
        tokenizer: Any,
        history_tokenizer: Any,
        history_vocab_size: int = 0,
        num_memory_tokens: int = 2,
        audio_stack: int = 8,
        system_prompt: str = "",
        max_prompt_tokens: int = 4096,
        max_audio_seconds: float = 30.0,
        video_fps: float = 4.0,
        max_frames: int = 8,
        face_detector: str = "",
        prompt_parts: Sequence[str] = LAYOUT,
        history_emotions: bool = False,
        think: Think = "none",
        **kwargs: Any,
    ) -> None:
        """Join the parts.

        Raises:
            LayoutError: a prompt part is unknown, or the parts make no prompt.
        """
        self.prompt_parts = list(Layout(prompt_parts).names)
        self.history_vocab_size = history_vocab_size
        self.num_memory_tokens = num_memory_tokens
        self.audio_stack = audio_stack
        self.system_prompt = system_prompt
        self.max_prompt_tokens = max_prompt_tokens
        self.max_audio_seconds = max_audio_seconds
        self.video_fps = video_fps
        self.max_frames = max_frames
        self.face_detector = face_detector
        self.history_emotions = history_emotions
        self.think = think
        super().__init__(feature_extractor, image_processor, tokenizer, history_tokenizer, **kwargs)

    @property
    def clips(self) -> ClipReader:
        """The reader of clips, with this processor's encoders and limits."""
        return ClipReader(
            self.feature_extractor,
            self.image_processor,
            self.max_audio_seconds,
            self.video_fps,
            self.max_frames,
            self.face_detector,
        )

    @property
    def chat(self) -> ChatFormat:
        """How the language model is talked to.

        Raises:
            ChatTemplateError: its tokenizer has no chat template that fits.
        """
        return chat_format(self.tokenizer)

    @property
    def layout(self) -> Layout:
        """The order of the parts of its prompts."""
        return Layout(self.prompt_parts, self.system_prompt, self.history_emotions)

    def encode_prompt(
        self,
        history: Sequence[Turn],
        current: Turn,
        clip: ClipFeatures,
        use_memory: bool = True,
        memories: Tensor | None = None,
    ) -> Prompt:
        """Build the prompt of one reply; the oldest turns are left out until it fits `max_prompt_tokens`.

        Args:
            history: turns before the current one, oldest first.
            current: the turn to answer.
            clip: its features.
            use_memory: False writes the history out as text, for comparison.
            memories: (k * turns, D), what a stream made of the whole history, which is then not read again; where the
                prompt has not room for all, those of the newest turns stay.

        Raises:
            DataError: the current turn alone is too long, or a special token is written out in a turn.
            ChatTemplateError: the chat template refuses the turns.
        """
        asked = Asked(history, current, *self._clip_tokens(clip))
        layout = self.layout if use_memory else self.layout.as_text()
        unread = () if memories is not None else history
        refuse_marks([*(turn.text for turn in unread), *layout.words(asked)], self.tokenizer)
        limit, k = self.max_prompt_tokens, self.num_memory_tokens
        try:
            num_kept, ids = layout.encode(self.chat, asked, limit, k)
            if layout.has_memory and memories is not None:
                return Prompt(ids, [], clip, k * num_kept, memories[len(memories) - k * num_kept :])
            if layout.has_memory:
                kept = history[len(history) - num_kept :]
                return Prompt(ids, self.encode_history(kept), clip, k * num_kept)
            bare = ids if num_kept == 0 else layout.encode(self.chat, replace(asked, history=()), limit, k)[1]
            return Prompt(ids, [], clip, len(ids) - len(bare))
        except PromptTooLong as error:
            raise DataError(
                f"a turn and its clip take {error.num_tokens} tokens, more than max_prompt_tokens "
                f"{self.max_prompt_tokens}: {current.text[:60]!r}...; raise max_prompt_tokens or shorten the turn"
            ) from error

    def encode_reply(self, text: str, emotion: Emotion | None) -> list[int]:
        """Return the ids of a labelled reply, closed as the chat template closes the assistant's turn.

        Raises:
            DataError: a special token is written out in it.
        """
        refuse_marks([text], self.tokenizer)
        return self.chat.encode_reply(reply_text(text, emotion))

    def encode_thought(self, current: Turn) -> list[int]:
        """Return the ids of what the model is to write of a turn before its reply; none where it thinks nothing.

        Raises:
            DataError: a special token is written out in it.
        """
        thought = thought_text(thought_of(current, self.think))
        refuse_marks([thought], self.tokenizer)
        return self.chat.encode_start(thought)

    def batch_context(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Stack what stands behind the placeholders, one row a prompt; absent halves become masked dummies.

        Returns:
            The tensors named in `epo.model.encoded_context.CONTEXT_KEYS`; where the prompts hold memories, those of
            `MEMORY_KEYS` in the place of `history_ids`.
        """
        given = [prompt.memories for prompt in prompts if prompt.memories is not None]
        if given:
            assert len(given) == len(prompts), "memories come for all prompts of a batch or for none"
            return _batch_memories(given) | self.clips.batch([prompt.clip for prompt in prompts])
        length = max(1, *(len(prompt.history_ids) for prompt in prompts))
        history = [[*p.history_ids, *[0] * (length - len(p.history_ids))] for p in prompts]
        context = {"history_ids": torch.tensor(history)}
        return context | self.clips.batch([prompt.clip for prompt in prompts])

    def require_fit(self, config: EpoConfig) -> None:
        """Refuse a model made with other settings.

        Raises:
            DataError: memory tokens a turn, audio stacking, or whether past turns tell their emotion differ.
        """
        for name, ours, theirs in (
            ("num_memory_tokens", self.num_memory_tokens, config.compressor_config.num_memory_tokens),
            ("audio_stack", self.audio_stack, config.extractor_config.audio_stack),
            ("history_emotions", self.history_emotions, config.compressor_config.history_emotions),
        ):
            if ours != theirs:
                raise DataError(f"the processor has {name} {ours}, the model {theirs}; load both from the same folder")

    def encode_history(self, history: Sequence[Turn]) -> list[int]:
        """Return the compressor's ids of past turns, each with its memory slots; turns one by one join to the same."""
        lines = [utterance_of(turn, self.history_emotions).line for turn in history]
        return encode_turns(self.history_tokenizer, lines, self.history_vocab_size, self.num_memory_tokens)

    def _clip_tokens(self, clip: ClipFeatures) -> tuple[int | None, int | None]:
        """Return how many vectors come for a clip's sound and picture, None for a missing half."""
        num_video = None if clip.video is None else clip.video.shape[0]
        if clip.audio is None:
            return None, num_video
        num_states = hearing_by(self.feature_extractor).num_states(clip.audio.shape[1])
        return -(-num_states // self.audio_stack), num_video


def _batch_memories(memories: Sequence[Tensor]) -> dict[str, Tensor]:
    """Pad memories (M, D) to one row a prompt, at least one vector wide, and say which are real."""
    length = max(1, *(len(part) for part in memories))
    vectors = torch.stack([torch.nn.functional.pad(part, (0, 0, 0, length - len(part))) for part in memories])
    sizes = torch.tensor([len(part) for part in memories], device=vectors.device)
    return {
        "memory_vectors": vectors,
        "memory_mask": torch.arange(length, device=vectors.device) < sizes.unsqueeze(1),
    }


AutoProcessor.register(EpoConfig, EpoProcessor)

__all__ = ["EpoProcessor", "Prompt", "split_reply"]

"""The processor: dialogues and clips in, prompts with placeholders and features out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AutoProcessor, PreTrainedTokenizerBase, ProcessorMixin

from compressor.chat import ChatFormat, chat_format
from compressor.data import Utterance, encode_turns
from compressor.fitting import PromptTooLong, memory_prompt, text_prompt
from compressor.placeholders import MEMORY_TOKEN
from epo.data.dialogue import DataError, Turn
from epo.emotions import Emotion
from epo.model.clip_reader import ClipFeatures, ClipReader
from epo.model.configuration import EpoConfig

AUDIO_TOKEN, VIDEO_TOKEN, EMOTION_TOKEN = "<|audio|>", "<|video|>", "<|emotion|>"
PLACEHOLDERS = (AUDIO_TOKEN, VIDEO_TOKEN, EMOTION_TOKEN, MEMORY_TOKEN)


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to be batched.

    Attributes:
        input_ids: the language model's ids, with placeholders.
        history_ids: the compressor's ids, turns with their memory slots; empty where there is no history.
        clip: the features behind the clip placeholders.
        num_history_tokens: tokens the history takes up in `input_ids`.
    """

    input_ids: list[int]
    history_ids: list[int]
    clip: ClipFeatures
    num_history_tokens: int


def reply_text(text: str, emotion: Emotion | None) -> str:
    """Write a reply as the model is to say it: its emotion label, then the words (after arXiv 2412.17292)."""
    return text if emotion is None else f"({emotion}) {text}"


def split_reply(reply: str) -> tuple[str | None, str]:
    """Part a generated reply into its label, None where it has none, and its words."""
    label, closed, words = reply.strip().removeprefix("(").partition(")")
    if reply.strip().startswith("(") and closed:
        return label.strip(), words.strip()
    return None, reply.strip()


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the placeholders and whatever else a tokenizer takes for a mark, not for words, wherever it is written."""
    marks = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*PLACEHOLDERS, *marks]))


@lru_cache(maxsize=4)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> tuple[str, ...]:
    """Return `special_tokens` of a tokenizer as large as it is, found once."""
    return special_tokens(tokenizer)


def refuse_tokens(text: str, tokens: Sequence[str]) -> None:
    """Refuse words in which a special token is written out: it would be taken for a clip or for the end of a turn.

    Raises:
        DataError: quotes the text and the token.
    """
    for token in tokens:
        if token in text:
            raise DataError(
                f"the text {text[:60]!r} contains {token!r}, which the model takes for a mark, not for words; remove it"
            )


def add_placeholders(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Teach a tokenizer the placeholder tokens and return their ids under the names `EpoConfig` gives them."""
    tokenizer.add_special_tokens({"extra_special_tokens": list(PLACEHOLDERS)}, replace_extra_special_tokens=False)
    names = ("audio_token_id", "video_token_id", "emotion_token_id", "memory_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(list(PLACEHOLDERS)), strict=True))


class EpoProcessor(ProcessorMixin):
    """Joins the language model's tokenizer, the compressor's, and the encoders' feature extractors.

    Args:
        feature_extractor: Whisper's.
        image_processor: CLIP's or SigLIP's.
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
        **kwargs: Any,
    ) -> None:
        self.history_vocab_size = history_vocab_size
        self.num_memory_tokens = num_memory_tokens
        self.audio_stack = audio_stack
        self.system_prompt = system_prompt
        self.max_prompt_tokens = max_prompt_tokens
        self.max_audio_seconds = max_audio_seconds
        self.video_fps = video_fps
        self.max_frames = max_frames
        self.face_detector = face_detector
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

    def encode_prompt(
        self, history: Sequence[Turn], current: Turn, clip: ClipFeatures, use_memory: bool = True
    ) -> Prompt:
        """Build the prompt of one reply: memory, clip, and the words of the current turn.

        The oldest turns are left out until the prompt fits `max_prompt_tokens`. However long the dialogue, with
        memories one prompt is rendered, and as text a few of about that length.

        Args:
            history: turns before the current one, oldest first.
            current: the turn to answer.
            clip: its features.
            use_memory: False writes the history out as text, for comparison.

        Raises:
            DataError: the current turn alone is too long, or a special token is written out in a turn.
            ChatTemplateError: the chat template refuses the turns.
        """
        self._refuse_tokens([turn.text for turn in (*history, current)])
        block = self._clip_placeholders(clip)
        try:
            if use_memory:
                num_kept, ids = self._memory_prompt(len(history), block + current.text)
                kept = history[len(history) - num_kept :]
                return Prompt(ids, self._history_ids(kept), clip, self.num_memory_tokens * num_kept)
            _, ids = self._text_prompt(history, block + current.text)
            _, bare = self._text_prompt([], block + current.text)
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
        self._refuse_tokens([text])
        return self.chat.encode_reply(reply_text(text, emotion))

    def batch_context(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Stack what stands behind the placeholders, one row a prompt; absent halves become masked dummies.

        Returns:
            The tensors named in `epo.model.modeling.CONTEXT_KEYS`.
        """
        length = max(1, *(len(prompt.history_ids) for prompt in prompts))
        history = [[*p.history_ids, *[0] * (length - len(p.history_ids))] for p in prompts]
        context = {"history_ids": torch.tensor(history)}
        return context | self.clips.batch([prompt.clip for prompt in prompts])

    def require_fit(self, config: EpoConfig) -> None:
        """Refuse a model made with other settings.

        Raises:
            DataError: memory tokens a turn or audio stacking differ.
        """
        for name, ours, theirs in (
            ("num_memory_tokens", self.num_memory_tokens, config.compressor_config.num_memory_tokens),
            ("audio_stack", self.audio_stack, config.extractor_config.audio_stack),
        ):
            if ours != theirs:
                raise DataError(f"the processor has {name} {ours}, the model {theirs}; load both from the same folder")

    def _memory_prompt(self, num_turns: int, current: str) -> tuple[int, list[int]]:
        k, limit = self.num_memory_tokens, self.max_prompt_tokens
        return memory_prompt(self.chat, self.system_prompt, num_turns, k, current, limit, PLACEHOLDERS)

    def _text_prompt(self, history: Sequence[Turn], current: str) -> tuple[int, list[int]]:
        past = [{"role": turn.speaker, "content": turn.text} for turn in history]
        return text_prompt(self.chat, self.system_prompt, past, current, self.max_prompt_tokens, PLACEHOLDERS)

    def _refuse_tokens(self, texts: Sequence[str]) -> None:
        """Refuse special tokens in these texts: all are searched at once, one by one only where a token may stand."""
        tokens = _special_tokens(self.tokenizer, len(self.tokenizer))
        joined = "\n".join(texts)
        if any(begin in joined for begin in {token[:2] for token in tokens}):
            for text in texts:
                refuse_tokens(text, tokens)

    def _history_ids(self, history: Sequence[Turn]) -> list[int]:
        lines = [Utterance(turn.speaker, turn.text).line for turn in history]
        return encode_turns(self.history_tokenizer, lines, self.history_vocab_size, self.num_memory_tokens)

    def _clip_placeholders(self, clip: ClipFeatures) -> str:
        if clip.audio is None and clip.video is None:
            return ""
        num_audio = 0 if clip.audio is None else -(-((clip.audio.shape[1] + 1) // 2) // self.audio_stack)
        num_video = 0 if clip.video is None else clip.video.shape[0]
        return f"({EMOTION_TOKEN}) {AUDIO_TOKEN * num_audio}{VIDEO_TOKEN * num_video}"


AutoProcessor.register(EpoConfig, EpoProcessor)

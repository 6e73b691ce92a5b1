"""The processor of Qwen2.5-Omni's thinker: dialogues and clips in, prompts with its own placeholders out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import ProcessorMixin

from compressor.chat import ChatFormat, chat_format
from compressor.fitting import PromptTooLong
from epo.data.dialogue import DataError, Turn
from epo.emotions import Emotion
from epo.model.clip_reader import ClipFeatures
from epo.model.omni.clips import OmniClipReader
from epo.model.processing import Prompt
from epo.prompts.emotion_label import reply_text
from epo.prompts.layout import Layout, LayoutError
from epo.prompts.marks import refuse_marks
from epo.prompts.part import Asked
from epo.prompts.parts.omni_clip import MARKS

OMNI_LAYOUT = ("system", "turns", "omni_clip", "emotion_word", "words")
"""The order of the thinker's prompt: its sound and its pictures stand before the words of the current turn."""


class OmniProcessor(ProcessorMixin):
    """Joins the thinker's tokenizer and feature extractors with this project's limits and prompts.

    The history is text: there are no memory tokens. transformers' own processor of this model needs torchvision for
    videos; here frames are decoded by `epo.data.media` and cut into patches as that processor does.

    Args:
        feature_extractor: `WhisperFeatureExtractor`.
        image_processor: `Qwen2VLImageProcessorPil`.
        tokenizer: the thinker's, with its chat template and marks.
        system_prompt: first message of every prompt, or empty for none (the template may write one of its own).
        max_prompt_tokens: longest prompt; the oldest turns give way, media placeholders never.
        max_audio_seconds: longest span read of a clip.
        video_fps: frames sampled a second.
        max_frames: most frames of a clip.
        max_frame_pixels: a frame's area after resizing, at most; 224 x 224 are 64 tokens for two frames (our choice).
        prompt_parts: what its prompts consist of, in order (`epo.prompts.layout`).
        **kwargs: other settings of `ProcessorMixin`, such as `chat_template`.
    """

    def __init__(
        self,
        feature_extractor: Any,
        image_processor: Any,
        tokenizer: Any,
        system_prompt: str = "",
        max_prompt_tokens: int = 4096,
        max_audio_seconds: float = 30.0,
        video_fps: float = 2.0,
        max_frames: int = 8,
        max_frame_pixels: int = 224 * 224,
        prompt_parts: Sequence[str] = OMNI_LAYOUT,
        **kwargs: Any,
    ) -> None:
        """Join the parts.

        Raises:
            DataError: the tokenizer lacks one of the thinker's marks.
            LayoutError: a prompt part is unknown, or needs memories.
        """
        layout = Layout(prompt_parts)
        if layout.has_memory:
            raise LayoutError("prompt_parts: Qwen2.5-Omni reads no memory tokens; write 'turns' in place of 'memory'")
        self.prompt_parts = list(layout.names)
        missing = [mark for mark in MARKS if mark not in tokenizer.get_vocab()]
        if missing:
            raise DataError(
                f"tokenizer {tokenizer.name_or_path!r} lacks {', '.join(missing)}, with which Qwen2.5-Omni is shown "
                "clips; use the tokenizer of its checkpoint"
            )
        self.system_prompt = system_prompt
        self.max_prompt_tokens = max_prompt_tokens
        self.max_audio_seconds = max_audio_seconds
        self.video_fps = video_fps
        self.max_frames = max_frames
        self.max_frame_pixels = max_frame_pixels
        super().__init__(feature_extractor, image_processor, tokenizer, **kwargs)

    @property
    def clips(self) -> OmniClipReader:
        """The reader of clips, with this processor's limits."""
        return OmniClipReader(
            self.feature_extractor,
            self.image_processor,
            self.max_audio_seconds,
            self.video_fps,
            self.max_frames,
            self.max_frame_pixels,
        )

    @property
    def chat(self) -> ChatFormat:
        """How the thinker is talked to.

        Raises:
            ChatTemplateError: its tokenizer has no chat template that fits.
        """
        return chat_format(self.tokenizer)

    @property
    def layout(self) -> Layout:
        """The order of the parts of its prompts."""
        return Layout(self.prompt_parts, self.system_prompt)

    def encode_prompt(
        self, history: Sequence[Turn], current: Turn, clip: ClipFeatures, use_memory: bool = False
    ) -> Prompt:
        """Build the prompt of one reply; the oldest turns are left out until it fits `max_prompt_tokens`.

        Args:
            history: turns before the current one, oldest first.
            current: the turn to answer.
            clip: its features.
            use_memory: there are no memories: whatever it says, the history is text.

        Raises:
            DataError: the current turn alone is too long, or a special token is written out in a turn.
            ChatTemplateError: the chat template refuses the turns.
        """
        reader, layout, limit = self.clips, self.layout, self.max_prompt_tokens
        asked = Asked(
            history,
            current,
            None if clip.audio is None else reader.num_audio_tokens(clip.audio),
            None if clip.video is None else reader.num_video_tokens(clip.video),
        )
        refuse_marks([*(turn.text for turn in history), *layout.words(asked)], self.tokenizer)
        try:
            num_kept, ids = layout.encode(self.chat, asked, limit, placeholders=MARKS)
        except PromptTooLong as error:
            raise DataError(
                f"a turn and its clip take {error.num_tokens} tokens, more than max_prompt_tokens "
                f"{self.max_prompt_tokens}: {current.text[:60]!r}...; raise max_prompt_tokens, lower max_frames, "
                "max_frame_pixels or max_audio_seconds, or shorten the turn"
            ) from error
        bare = replace(asked, history=())
        num_bare = len(ids) if num_kept == 0 else len(layout.encode(self.chat, bare, limit, placeholders=MARKS)[1])
        return Prompt(ids, [], clip, len(ids) - num_bare)

    def encode_reply(self, text: str, emotion: Emotion | None) -> list[int]:
        """Return the ids of a labelled reply, closed as the chat template closes the assistant's turn.

        Raises:
            DataError: a special token is written out in it.
        """
        refuse_marks([text], self.tokenizer)
        return self.chat.encode_reply(reply_text(text, emotion))

    def batch_context(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Stack what stands behind the placeholders; a half that no clip has is not among the tensors."""
        return self.clips.batch([prompt.clip for prompt in prompts])

"""How long a stage's examples are, told from its data and its tokenizers, or guessed where these are not there yet.

The longest are what memory is estimated with, for the fullest micro-batch decides; the mean says how many tokens a step
reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from epo.data.dialogue import Clip, Dialogue
from epo.data.replies import Reply
from epo.training.planned_steps import StepSizes
from launch.checkup.stage_models import Parts

_BYTES_A_TOKEN = 4  # of English in a vocabulary of some ten thousand; for what has no tokenizer yet
_AROUND_A_TURN = 8  # what a chat template puts around one
_MOST_TEXTS, _MOST_ENCODED, _MOST_PROBED = 20_000, 24, 8
_UNKNOWN_REPLY = 64


@dataclass(frozen=True)
class Lengths:
    """What a stage reads.

    Attributes:
        longest: sizes of a micro-batch of the longest examples.
        mean_tokens: of an example, over those looked at; None where there are none.
        source: where the numbers come from, in words.
    """

    longest: StepSizes
    mean_tokens: float | None
    source: str


@dataclass(frozen=True)
class Readers:
    """What turns a stage's texts into tokens; None where that is not there yet.

    Attributes:
        llm: tokenizer of the language model, knowing the placeholders.
        backbone: that of the compressor.
    """

    llm: Any = None
    backbone: Any = None


def unknown_lengths(recipe: Any, parts: Parts, rows: int) -> Lengths:
    """Return the sizes to reckon with where there is no data: the longest prompt that the recipe allows."""
    tokens = min(getattr(recipe, "max_prompt_tokens", 4096), _positions(parts))
    reply = min(_UNKNOWN_REPLY, tokens)
    k = 0 if parts.compressor is None else parts.compressor.num_memory_tokens
    mel, frames = _clip_sizes(recipe, parts, ())
    sizes = StepSizes(rows, tokens, reply, tokens, min(8 * k, tokens), tokens, reply, mel, frames)
    return Lengths(sizes, None, "max_prompt_tokens, for there is no data yet")


def measure_clips(recipe: Any, parts: Parts, clips: Sequence[Clip], rows: int) -> Lengths:
    """Return the sizes of an extractor's micro-batch."""
    mel, frames = _clip_sizes(recipe, parts, clips)
    return Lengths(StepSizes(rows, 0, 0, mel_frames=mel, video_frames=frames), None, "the clips' lengths")


def measure_replies(
    recipe: Any, parts: Parts, readers: Readers, replies: Sequence[Reply], rows: int, kind: str
) -> Lengths:
    """Return the sizes of a micro-batch of replies.

    Args:
        recipe: of the stage.
        parts: configurations of its model's parts.
        readers: its tokenizers.
        replies: that it learns or is tested on.
        rows: of a micro-batch.
        kind: "text" for a history written out, "compressor", or "whole" for memories and clips.
    """
    by_length = sorted(replies, key=lambda reply: -_characters(reply))
    mel, frames = _clip_sizes(recipe, parts, [r.current.clip for r in by_length if r.current.clip is not None])
    if kind == "text":
        mel = frames = 0
    measure = _measurer(recipe, parts, readers, kind, mel, frames)
    longest = [measure(reply) for reply in by_length[:_MOST_ENCODED]]
    spread = [measure(reply) for reply in replies[:: -(-len(replies) // _MOST_ENCODED)]]
    highest = {name: max(getattr(one, name) for one in longest) for name in _OF_WORDS}
    tallest = replace(StepSizes(rows, mel_frames=mel, video_frames=frames, tokens=0, reply=0), **highest)
    mean = sum(one.tokens for one in spread) / len(spread)
    return Lengths(tallest, mean, "the data" if readers.llm is not None else "the data, 4 bytes a token")


_OF_WORDS = ("tokens", "reply", "history", "memories", "text", "turn")


def _measurer(
    recipe: Any, parts: Parts, readers: Readers, kind: str, mel: int, frames: int
) -> Callable[[Reply], StepSizes]:
    """Return what measures one reply."""
    k = 0 if parts.compressor is None else parts.compressor.num_memory_tokens
    heard = 0 if parts.extractor is None or mel == 0 else parts.extractor.num_audio_tokens(mel)
    limit = getattr(recipe, "max_prompt_tokens", 4096)
    count, count_history = _counter(readers.llm), _counter(readers.backbone)
    around = _around_a_turn(readers.llm)

    def measure(reply: Reply) -> StepSizes:
        """Count by the layout of the prompts where there is a tokenizer, by bytes otherwise."""
        turns = [count(turn.text) + around for turn in reply.history]
        has_clip = kind == "whole" and reply.current.clip is not None
        said = count(reply.text) + around
        whole = sum(turns) + count(reply.current.text) + 2 * around
        clip = (heard + frames + 1) if has_clip else 0
        short = min(k * len(turns) + clip + count(reply.current.text) + 2 * around, limit)
        system = count(getattr(recipe, "system_prompt", ""))
        history = sum(count_history(f"{turn.speaker}: {turn.text}") for turn in reply.history) + k * len(turns)
        longest_turn = max((count(turn.text) for turn in reply.history), default=0)
        prompt = min(whole, limit) if kind == "text" else short
        return StepSizes(
            1, prompt + said + system, said, history, k * len(turns), min(whole, limit) + said + system,
            longest_turn + k + 2 * around,
        )  # fmt: skip

    return measure


def readers_of(llm: Any, backbone: Any, dialogues: Sequence[Dialogue] | None) -> Readers:
    """Return the tokenizers of two parts as the stages make them.

    Args:
        llm: where its tokenizer comes from: a folder, a config file to train one for, or None.
        backbone: likewise.
        dialogues: whose training texts a tokenizer is trained on; None where they are not there.
    """
    from epo.model.parts import is_config_file, load_tokenizer

    found = []
    for part in (llm, backbone):
        tokenizer = None
        if part is not None and not (is_config_file(part) and dialogues is None):
            turns = [turn.text for d in dialogues or () if d.split == "train" for turn in d.turns]
            try:
                tokenizer = load_tokenizer(part, turns[:_MOST_TEXTS])
            except ValueError:
                tokenizer = None  # what is wrong with the part is told where it is found
        found.append(tokenizer)
    return Readers(*found)


def _around_a_turn(tokenizer: Any) -> int:
    """Return what the chat template puts around a turn, counted on two turns more."""
    if tokenizer is None:
        return _AROUND_A_TURN
    from compressor.chat import chat_format
    from compressor.fitting import FixedParts, text_prompt

    past = [{"role": role, "content": "a"} for role in ("user", "assistant")] * 2
    try:
        chat = chat_format(tokenizer)
        bare, longer = (len(text_prompt(chat, FixedParts(after="a"), turns, None)[1]) for turns in ([], past))
    except ValueError:  # no template, or one that does not fit: the stage says so
        return _AROUND_A_TURN
    return max((longer - bare) // len(past) - 1, 0)


def _counter(tokenizer: Any) -> Callable[[str], int]:
    if tokenizer is None:
        return lambda text: -(-len(text.encode()) // _BYTES_A_TOKEN)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def _characters(reply: Reply) -> int:
    return sum(len(turn.text) for turn in (*reply.history, reply.current)) + len(reply.text)


def _positions(parts: Parts) -> int:
    return int(getattr(parts.llm, "max_position_embeddings", None) or 4096)


def _clip_sizes(recipe: Any, parts: Parts, clips: Sequence[Clip]) -> tuple[int, int]:
    """Return mel frames and pictures of the longest clip, by the files' headers where they are there."""
    if parts.extractor is None:
        return 0, 0
    most = getattr(recipe, "max_audio_seconds", parts.extractor.audio_config.max_source_positions / 50)
    lengths = [_seconds(clip) for clip in clips[:_MOST_PROBED]]
    known = [seconds for seconds in lengths if seconds is not None]
    seconds = min(max(known), most) if known else most
    frames = int(getattr(recipe, "max_frames", parts.extractor.max_frames))
    is_heard = not clips or any(clip.audio is not None for clip in clips)
    is_seen = not clips or any(clip.video is not None for clip in clips)
    return max(int(100 * seconds), 2) if is_heard else 0, frames if is_seen else 0


def _seconds(clip: Clip) -> float | None:
    """Return how long a clip is, None where its file is not there or says nothing."""
    if clip.end_s is not None:
        return clip.end_s - clip.start_s
    path = clip.audio if clip.audio is not None else clip.video
    if path is None:
        return None
    import av

    try:
        with av.open(str(path)) as file:
            return None if file.duration is None else file.duration / 1e6 - clip.start_s
    except (OSError, ValueError):
        return None


__all__ = ["Lengths", "Readers", "measure_clips", "measure_replies", "readers_of", "unknown_lengths"]

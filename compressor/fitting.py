"""Prompts of any length of dialogue: the newest turns that fit a limit, found without trying them one by one."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, count

from compressor.chat import ChatFormat, ChatTemplateError, Message
from compressor.placeholders import MEMORY_TOKEN
from compressor.text import CompressorDataError

_TURN_CHARACTERS = 16
"""What a template's own tokens around a turn count for where lengths are guessed, as if they were characters."""


class PromptTooLong(CompressorDataError):
    """A current turn that exceeds the limit even without any turn before it.

    Made anew from its message alone where a data loader's worker raised it.
    """

    def __init__(self, message: str, num_tokens: int = 0) -> None:
        super().__init__(message)
        self.num_tokens = num_tokens


@dataclass(frozen=True)
class FixedParts:
    """What stands around the history in a prompt and never gives way; who writes the prompt says in which order.

    Attributes:
        system: the system message, empty for none.
        before: what the user's message to be answered begins with, before any memories.
        after: what follows them: the words and, before them, what is told about them.
    """

    system: str = ""
    before: str = ""
    after: str = ""

    @property
    def asked(self) -> str:
        """The user's message without memories."""
        return self.before + self.after

    def messages(self, past: Sequence[Message] = (), memories: str = "") -> list[Message]:
        """Return the messages of a prompt that tells the history by past messages, by memories, or not at all."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *past, {"role": "user", "content": self.before + memories + self.after}]


def text_prompt(
    chat: ChatFormat,
    fixed: FixedParts,
    past: Sequence[Message],
    limit: int | None,
    placeholders: Sequence[str] = (MEMORY_TOKEN,),
) -> tuple[int, list[int]]:
    """Write the newest past turns that fit, and the current one, as text.

    Args:
        chat: of the language model.
        fixed: what stands around them, the user's turn to answer included.
        past: earlier turns, oldest first.
        limit: most tokens; None for no limit.
        placeholders: tokens in `fixed` of which none may get lost.

    Returns:
        How many past turns are in it, and its ids.

    Raises:
        PromptTooLong: the current turn alone does not fit.
        ChatTemplateError: the template refuses the turns.
    """

    def write(num_turns: int) -> list[int]:
        kept = past[len(past) - num_turns :]
        return chat.encode_prompt(fixed.messages(kept), placeholders)

    found = newest_that_fit([len(turn["content"]) for turn in past], write, limit)
    if found is None:
        assert limit is not None
        raise _too_long(fixed, len(write(0)), limit)
    return found


def memory_prompt(
    chat: ChatFormat,
    fixed: FixedParts,
    num_turns: int,
    num_memory_tokens: int,
    limit: int | None,
    placeholders: Sequence[str] = (MEMORY_TOKEN,),
) -> tuple[int, list[int]]:
    """Write the memories of the newest turns that fit, and the current turn.

    Memory tokens are counted, not tokenised: whatever the number of turns, one prompt is rendered.

    Args:
        chat: of the language model.
        fixed: what stands around them, the user's turn to answer included.
        num_turns: past turns there are.
        num_memory_tokens: k, memory tokens a turn.
        limit: most tokens; None for no limit.
        placeholders: tokens of which none may get lost.

    Returns:
        How many turns are remembered, and the prompt's ids.

    Raises:
        PromptTooLong: the current turn alone does not fit.
        ChatTemplateError: the template refuses the turn.
    """
    if num_turns > 0:
        ids = chat.encode_prompt(fixed.messages(memories=MEMORY_TOKEN * num_memory_tokens), placeholders)
        memory_id = chat.tokenizer.convert_tokens_to_ids(MEMORY_TOKEN)
        place = ids.index(memory_id) if memory_id in ids else 0
        one_turn = [memory_id] * num_memory_tokens
        if ids[place : place + num_memory_tokens] != one_turn or ids.count(memory_id) != num_memory_tokens:
            raise ChatTemplateError(
                f"tokenizer {chat.tokenizer.name_or_path!r} does not read {MEMORY_TOKEN} as one token; add it as a "
                "special token"
            )
        fitting = num_turns if limit is None else min(num_turns, 1 + (limit - len(ids)) // num_memory_tokens)
        if fitting > 0:
            return fitting, ids[:place] + one_turn * fitting + ids[place + num_memory_tokens :]
    bare = chat.encode_prompt(fixed.messages(), placeholders)
    if limit is not None and len(bare) > limit:
        raise _too_long(fixed, len(bare), limit)
    return 0, bare


def newest_that_fit(
    num_characters: Sequence[int], write: Callable[[int], list[int]], limit: int | None
) -> tuple[int, list[int]] | None:
    """Return the most turns whose prompt fits and that prompt; None where not even a prompt without turns does.

    A prompt's tokens are nearly proportional to its characters, so the number is guessed from the prompts written so
    far, which takes some five of them however many turns there are; every third time what is left is halved, so that
    it never takes more than three times as many as halving alone.

    Args:
        num_characters: of each turn, oldest first.
        write: the ids of a prompt with this many of the newest turns; more turns never make it shorter.
        limit: most tokens; None for no limit.
    """
    num_turns = len(num_characters)
    if limit is None:
        return num_turns, write(num_turns)
    weights = list(accumulate((number + _TURN_CHARACTERS for number in reversed(num_characters)), initial=0))
    # Four characters a token are usual: most dialogues fit whole, and are then written only once.
    guess = bisect_right(weights, 4 * limit) - 1
    if guess == num_turns:
        ids = write(num_turns)
        if len(ids) <= limit:
            return num_turns, ids
        too_many, excess = num_turns, len(ids)
    else:
        too_many, excess = num_turns + 1, 0  # nothing is known to be too much yet
    fits, best = 0, write(0)
    if len(best) > limit:
        return None
    for step in count(1):
        if too_many - fits == 1:
            return fits, best
        if excess:  # between a prompt that fits and one that does not
            rate = (weights[too_many] - weights[fits]) / max(excess - len(best), 1)
            guess = bisect_right(weights, weights[fits] + rate * (limit - len(best))) - 1
        elif fits:  # beyond one that fits, at its characters a token
            guess = bisect_right(weights, weights[fits] * limit / len(best)) - 1
        if step % 3 == 0:
            guess = (fits + too_many) // 2
        guess = min(max(guess, fits + 1), too_many - 1)
        ids = write(guess)
        if len(ids) <= limit:
            fits, best = guess, ids
        else:
            too_many, excess = guess, len(ids)
    raise AssertionError("unreachable")


def _too_long(fixed: FixedParts, num_tokens: int, limit: int) -> PromptTooLong:
    return PromptTooLong(
        f"a turn takes {num_tokens} tokens, more than max_prompt_tokens {limit}: {fixed.asked[:60]!r}...; raise "
        "max_prompt_tokens or shorten the turn",
        num_tokens,
    )

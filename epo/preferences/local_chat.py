"""A Hugging Face chat model in this process, asked many questions together."""

import copy
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from compressor.chat import chat_format
from compressor.decoding import plain_decoding
from compressor.seams import cache_name
from compressor.text import PAD
from epo.asking.endpoint import UnusableAnswer
from epo.asking.questions import Answer, Question

_MAX_ROWS = {"cpu": 48, "cuda": 256}  # written together: a GPU has room for more
_TOKENS_BETWEEN = 8  # until rows that are over leave the others: the copy of what is remembered costs less than a step


class LocalChat:
    """Asks a loaded model many questions together.

    What all questions begin with is read once, and a question with several answers once for all of them. A family whose
    memory of what it read cannot be copied so, recurrent ones and those with windows, is asked questions of one length
    together, for it reads padding too. Each answer is drawn from random
    numbers of its own: which questions stand beside it changes nothing but the last bits of rounding.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        temperature: float = 0.7,
        max_tokens: int = 256,
        is_one_line: bool = False,
    ) -> None:
        """Take a model that is where it should run.

        Args:
            name: what it was loaded from.
            model: any causal language model.
            tokenizer: the model's, with a chat template.
            temperature: of sampling from all tokens; 0 takes the most likely one. What the checkpoint's own generation
                settings say besides (top-p, penalties) is set aside, so that the answer is the model's at this
                temperature, as an endpoint gives it.
            max_tokens: longest answer.
            is_one_line: an answer ends with its first line.

        Raises:
            ChatTemplateError: the tokenizer has no chat template that fits.
        """
        self.name = name
        settings = {"temperature": temperature, "max_tokens": max_tokens, "decoding": "plain"}
        self.identity: dict[str, Any] = {"model": name, "dtype": str(model.dtype), "one_line": is_one_line} | settings
        self._model, self._tokenizer, self._chat = model.eval(), tokenizer, chat_format(tokenizer)
        self._temperature, self._max_tokens, self._is_one_line = temperature, max_tokens, is_one_line
        self._memory = cache_name(model)
        self._limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._has_said_too_long = False

    def ask(self, prompt: str, seed: int) -> str:
        """Return the model's reply to one user message; the same for the same seed.

        Raises:
            UnusableAnswer: it said nothing.
        """
        ((_, text),) = self.answers([Question([{"role": "user", "content": prompt}], seed)])
        if text is None:
            raise UnusableAnswer("an empty reply")
        return text

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Yield the place of each question and its answer, None where the model said nothing, as they come.

        A question that leaves no room for an answer within the positions that the model knows is not asked: it would
        answer with noise. One line says so.
        """
        assert all(question.pictures is None for question in questions), "a model loaded here sees no pictures"
        rows = [self._chat.encode_prompt(question.messages) for question in questions]
        fits = [self._limit is None or len(row) + self._max_tokens <= self._limit for row in rows]
        yield from ((place, None) for place in range(len(rows)) if not fits[place])
        self._say_too_long([row for row, is_right in zip(rows, fits, strict=True) if not is_right])
        asked = [row for row, is_right in zip(rows, fits, strict=True) if is_right]
        shared = self._read_shared(_common_start(asked)) if len(asked) > 1 else None
        places = sorted((p for p in range(len(rows)) if fits[p]), key=lambda place: (len(rows[place]), rows[place]))
        most = _MAX_ROWS.get(self._model.device.type, _MAX_ROWS["cpu"])
        for part in _batches(places, [len(row) for row in rows], most, may_pad=shared is not None):
            drawn = [_uniform(questions[place]) for place in part]
            texts = self._write([rows[place] for place in part], drawn, shared)
            yield from zip(part, texts, strict=True)

    def _say_too_long(self, rows: Sequence[Sequence[int]]) -> None:
        if rows and not self._has_said_too_long:
            self._has_said_too_long = True
            print(
                f"{self.name}: a question of {max(map(len, rows)):,} tokens with an answer of up to "
                f"{self._max_tokens:,} is beyond its {self._limit:,} positions and gets none, nor do others as long; "
                "name a model that reads more, or shorten the dialogues",
                flush=True,
            )

    @torch.no_grad()
    def _read_shared(self, ids: list[int]) -> "DynamicCache | None":
        """Return what the model remembers of the ids that all questions begin with; None where it cannot be shared."""
        if not ids:
            return None
        cache = self._model(torch.tensor([ids], device=self._model.device), use_cache=True).get(self._memory)
        # A window or a recurrent state is not cut and copied as keys and values are.
        kinds = {type(layer).__name__ for layer in cache.layers} if type(cache) is DynamicCache else set()
        return cache if kinds == {"DynamicLayer"} else None

    @torch.no_grad()
    def _write(
        self, rows: list[list[int]], draws: list[torch.Generator], shared: "DynamicCache | None"
    ) -> list[str | None]:
        """Return one answer for each of some rows, those of one question standing together.

        Shorter rows are padded behind what is shared, where nothing looks. Where memory can be cut, rows whose answer
        is over leave the others after a few tokens, so that one long answer does not cost as many steps of all.
        """
        begin = 0 if shared is None else shared.get_seq_length()
        longest = max(map(len, rows))
        padded = [[*row[:begin], *[PAD] * (longest - len(row)), *row[begin:]] for row in rows]
        is_said = [[*[1] * begin, *[0] * (longest - len(row)), *[1] * (len(row) - begin)] for row in rows]
        ids_BT, mask_BT = (torch.tensor(numbers, device=self._model.device) for numbers in (padded, is_said))
        cache = None if shared is None else self._read_rest(ids_BT, mask_BT, shared)
        texts: list[str | None] = [None] * len(rows)
        places = list(range(len(rows)))
        while places:
            left = self._max_tokens - (ids_BT.size(1) - longest)
            ids_BT = self._go_on(ids_BT, mask_BT, cache, [draws[p] for p in places], longest, left)
            answers = ids_BT[:, longest:].tolist()
            is_whole = cache is None or len(answers[0]) >= self._max_tokens
            stays = [not (is_whole or self._is_over(answer)) for answer in answers]
            for place, answer, is_unfinished in zip(places, answers, stays, strict=True):
                if not is_unfinished:
                    texts[place] = self._text(answer)
            places = [place for place, is_unfinished in zip(places, stays, strict=True) if is_unfinished]
            if cache is not None and places:
                kept = torch.tensor(stays, device=ids_BT.device).nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                ids_BT, mask_BT = ids_BT[kept], mask_BT[kept]
                mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(kept), ids_BT.size(1) - mask_BT.size(1))], dim=1)
        return texts

    def _go_on(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor,
        cache: "DynamicCache | None",
        draws: list[torch.Generator],
        begin: int,
        left: int,
    ) -> Tensor:
        """Return int64 (B, T + n), rows gone on with: by a few tokens where there is a cache, else to their ends."""
        stops = [_LineEnds(self._tokenizer, begin)] if self._is_one_line else []
        with plain_decoding(self._model, 0.0) as greedy:
            written: Tensor = self._model.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                **({} if cache is None else {self._memory: cache}),
                **greedy,
                logits_processor=[_Draw(draws, self._temperature)] if self._temperature > 0 else [],
                stopping_criteria=stops,
                max_new_tokens=left if cache is None else min(left, _TOKENS_BETWEEN),
                eos_token_id=self._chat.stop_ids,
                pad_token_id=PAD,
            )
        return written

    def _is_over(self, ids: list[int]) -> bool:
        """Tell whether an answer has reached its end."""
        if any(stop in ids for stop in self._chat.stop_ids):
            return True
        return self._is_one_line and _holds_a_line(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _read_rest(self, ids_BT: Tensor, mask_BT: Tensor, shared: DynamicCache) -> DynamicCache:
        """Return what the model remembers of all ids but each row's last: each question is read once."""
        _, place_of_B = torch.unique_consecutive(ids_BT, dim=0, return_inverse=True)
        first_Q = torch.cat([place_of_B.new_ones(1), place_of_B.diff()]).nonzero().squeeze(1)
        cache = copy.deepcopy(shared)
        begin = cache.get_seq_length()
        cache.batch_repeat_interleave(len(first_Q))
        if begin < ids_BT.size(1) - 1:
            mask_QT = mask_BT[first_Q, :-1]
            positions_QT = (mask_QT.cumsum(dim=1) - 1).clamp(min=0)[:, begin:]
            has_positions = "position_ids" in inspect.signature(self._model.forward).parameters
            self._model(
                ids_BT[first_Q, begin:-1],
                attention_mask=mask_QT,
                use_cache=True,
                **{self._memory: cache} | ({"position_ids": positions_QT} if has_positions else {}),
            )
        cache.batch_select_indices(place_of_B)
        return cache

    def _text(self, ids: list[int]) -> str | None:
        """Return the words of an answer, None where it says nothing."""
        text = self._chat.decode(ids).strip()
        if text == "":
            return None
        return text.splitlines()[0].strip() if self._is_one_line else text


class _Draw(LogitsProcessor):
    """Draws each row's next token by a random number of its own, and leaves it as the only one."""

    def __init__(self, draws: Sequence[torch.Generator], temperature: float) -> None:
        self._draws, self._temperature = draws, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return float (B, V), minus infinity everywhere but at the drawn token.

        Args:
            input_ids: int64 (B, T), what stands there so far.
            scores: float (B, V).
        """
        sums_BV = (scores.double() / self._temperature).softmax(dim=-1).cumsum(dim=-1)
        points_B = torch.stack([torch.rand(1, generator=draw, dtype=torch.float64) for draw in self._draws])
        # Below the last sum, which rounding may leave a little off 1, so that some token is always found.
        drawn_B = torch.searchsorted(sums_BV, points_B.to(sums_BV.device) * sums_BV[:, -1:], right=True)
        drawn_B = drawn_B.clamp(max=scores.size(-1) - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn_B, 0.0)


class _LineEnds(StoppingCriteria):
    """Ends an answer at the first line break after a word."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, begin: int) -> None:
        self._tokenizer, self._begin = tokenizer, begin

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Return bool (B,), whether each row's line is over.

        Args:
            input_ids: int64 (B, T), prompt and answer so far.
            scores: not looked at.
            kwargs: not looked at.
        """
        texts = self._tokenizer.batch_decode(input_ids[:, self._begin :], skip_special_tokens=True)
        return torch.tensor([_holds_a_line(text) for text in texts], device=input_ids.device)


def _holds_a_line(text: str) -> bool:
    """Tell whether a line break stands behind a word."""
    return "\n" in text.lstrip()


def _batches(places: Sequence[int], lengths: Sequence[int], most: int, may_pad: bool) -> Iterator[list[int]]:
    """Yield places that are written together: of one length, unless padding does no harm."""
    batch: list[int] = []
    for place in places:
        if batch and (len(batch) == most or not may_pad and lengths[place] != lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _common_start(rows: Sequence[list[int]]) -> list[int]:
    """Return the ids that all rows begin with; each row keeps one of its own at least."""
    first, last = min(rows), max(rows)
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return list(first[: min(length, min(map(len, rows)) - 1)])


def _uniform(question: Question) -> torch.Generator:
    """Return the random numbers of one answer, which depend on its question and seed alone."""
    text = json.dumps([question.messages, question.seed], sort_keys=True)
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


def load_local_chat(part: str, dtype: str, temperature: float, max_tokens: int, is_one_line: bool = False) -> LocalChat:
    """Load a chat model to ask, onto the GPU where there is one.

    Args:
        part: folder or hub name.
        dtype: of its weights.
        temperature: as of `LocalChat`, and so are the rest.
        max_tokens: longest answer.
        is_one_line: an answer ends with its first line.

    Raises:
        PartError: it cannot be found, or is no causal language model.
        ChatTemplateError: its tokenizer has no chat template that fits.
    """
    from epo.model.parts import load_text_model, load_tokenizer

    tokenizer = load_tokenizer(part, ())
    chat_format(tokenizer)  # refuses one without a template before the weights are read
    model = load_text_model(part, dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return LocalChat(part, model, tokenizer, temperature, max_tokens, is_one_line)


__all__ = ["LocalChat", "load_local_chat"]

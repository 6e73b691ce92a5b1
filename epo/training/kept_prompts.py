"""Memories and clips of all prompts, encoded once for many passes and runs and not at each step."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from epo import ranks
from epo.model.family import Family
from epo.training.collate import PairCollator
from epo.training.encoder_cache import EncodedPrompt, EncoderCache, EncoderCacheError, Places, read_prompt
from epo.training.reference_keys import PairKeys

_SHARD_S, _SHARD_BYTES = 60.0, 256 * 2**20
"""How much work an interruption may cost, in seconds, and how large a shard becomes before it is written."""

Encode = Callable[[dict[str, Tensor]], list[tuple[Tensor, Tensor]]]
"""Takes a batch of B pairs to the placeholders of their prompts, int64 (N,), and what stands there, (N, D)."""


class KeptPrompts:
    """What the model makes of every pair's prompt: found in a cache, or encoded on first use and put there.

    Right where extractor and compressor stand still, as they do in EPO.
    """

    def __init__(self, cache: EncoderCache, weights: str, collate: PairCollator, keys: PairKeys) -> None:
        """Look at nothing yet.

        Args:
            cache: where prompts are kept.
            weights: digest of the weights that encode, of `reference_digest`.
            collate: makes batches of pairs; is told to take its prompts from here once all are known.
            keys: of these pairs' prompts.

        Raises:
            EncoderCacheError: the collator makes its batches in a way of its own.
        """
        if type(collate).__call__ is not PairCollator.__call__:
            raise EncoderCacheError(
                f"encoder_cache: {type(collate).__name__} makes batches by its own __call__, which takes no prompts "
                "from elsewhere; let it override encode_prompts and encode_replies, or leave the cache out"
            )
        self._cache, self._weights, self._collate, self._keys = cache, weights, collate, keys
        self._table: list[tuple[Path, bytes]] | None = None  # of each pair, the shard and the key in it

    def fill_once(self, encode: Encode, batch_size: int) -> None:
        """Find or encode all prompts, unless that is done. Every rank must call it; each encodes its share.

        Args:
            encode: takes a batch of B pairs to the placeholders of their prompts and what stands there.
            batch_size: pairs encoded at a time.

        Raises:
            EncoderCacheError: an encoded number is not finite.
        """
        if self._table is not None:
            return
        keys = self._keys.of_prompts()
        places: Places = ranks.of_first(self._known)
        missing = list({keys[i]: i for i in self._by_length() if keys[i] not in places}.values())
        if missing and ranks.rank() == 0:
            count = len(set(keys))
            known = count - len(missing)
            print(f"encoders: {known} of {count} prompts are known, {len(missing)} are encoded", flush=True)
        for found in ranks.gather_shares([self._encode(missing, keys, encode, batch_size)]):
            places |= found
        self._table = [(places[key], key) for key in keys]
        self._collate.keep(self)

    def batch(self, indices: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Return the ids of pairs' prompts, and what stands at their placeholders as `PLACED_KEYS`.

        Args:
            indices: of B pairs.

        Raises:
            EncoderCacheError: a shard is gone.
        """
        assert self._table is not None
        kept = [read_prompt(*self._table[i]) for i in indices]
        vectors = pad_sequence([prompt.vectors for prompt in kept], batch_first=True)
        kinds = pad_sequence([prompt.kinds for prompt in kept], batch_first=True, padding_value=-1)
        return [prompt.ids.tolist() for prompt in kept], {"placed_vectors": vectors, "placed_ids": kinds}

    def _known(self) -> Places:
        places, damaged = self._cache.load(self._weights)
        for path in damaged:
            print(f"encoder_cache: {path} is damaged; it is deleted and its prompts are encoded anew")
        return places

    def _by_length(self) -> list[int]:
        return [row["index"] for row in self._collate.longest(len(self._collate.pairs))]

    def _encode(self, missing: list[int], keys: list[bytes], encode: Encode, batch_size: int) -> Places:
        """Encode this rank's share and return where it lies; it goes to disk a shard a minute."""
        places: Places = {}
        pending: dict[bytes, EncodedPrompt] = {}
        last_s, num_bytes, num_done = time.monotonic(), 0, 0
        for indices, is_real in ranks.even_batches(missing, batch_size):
            batch = self._collate([{"index": i} for i in indices])
            placed = encode(batch)
            if not is_real:
                continue
            for row, (index, (kinds, vectors)) in enumerate(zip(indices, placed, strict=True)):
                if not vectors.isfinite().all():
                    raise EncoderCacheError(
                        f"what the model makes of the prompt of pair {index} is not finite; its weights are damaged, "
                        "or a precision does not fit them: look at the validation numbers of launch/sft.py"
                    )
                ids = batch["input_ids"][row, : int(batch["prompt_lengths"][row])]
                prompt = pending[keys[index]] = EncodedPrompt(ids, kinds.cpu(), vectors.cpu())
                num_bytes += prompt.num_bytes
            num_done += len(indices)
            if num_bytes > _SHARD_BYTES or time.monotonic() - last_s > _SHARD_S:
                places |= self._cache.add(self._weights, pending)
                pending, last_s, num_bytes = {}, time.monotonic(), 0
                if ranks.rank() == 0:
                    print(f"encoders: {num_done} of this rank's {len(ranks.share(missing))} are encoded", flush=True)
        return places | (self._cache.add(self._weights, pending) if pending else {})


def require_kept(family: Family, model: Any, batch: dict[str, Any], ref_model: Any) -> None:
    """Refuse to keep what would not be the same at the next step, or for the reference.

    Args:
        family: of the model.
        model: bare.
        batch: of `Family.encode_once`.
        ref_model: a second model as reference, None where there is none.

    Raises:
        EncoderCacheError: names the remedy.
    """
    if ref_model is not None:
        raise EncoderCacheError("encoder_cache: ref_model would read what another model encoded; leave one of them out")
    encoded = getattr(family, "encoded_prompts", None)  # a family from outside may not have it
    if encoded is None or encoded(model, batch) is None:
        raise EncoderCacheError(
            f"encoder_cache: what {family.model_class} encodes cannot be kept apart a prompt; leave it out"
        )


__all__ = ["KeptPrompts", "require_kept"]

"""The reference's log-probabilities of all pairs, scored once for many runs and not beside the policy at each step."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from epo import ranks
from epo.training.collate import PairCollator
from epo.training.reference_cache import Numbers, ReferenceCache, ReferenceCacheError
from epo.training.reference_keys import PairKeys

_SHARD_S = 60.0
"""How much work an interruption may cost, in seconds."""


class ReferenceScores:
    """A table of what the reference says of every pair: found in a cache, or scored on first use and put there."""

    def __init__(self, cache: ReferenceCache, reference: str, collate: PairCollator, keys: PairKeys) -> None:
        """Make a table, empty as yet.

        Args:
            cache: where the numbers are kept.
            reference: digest of the reference, of `reference_digest`.
            collate: makes batches of pairs.
            keys: of these pairs.
        """
        self._cache, self._reference, self._collate, self._keys = cache, reference, collate, keys
        self._table: Tensor | None = None

    def of(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of chosen and rejected replies of pairs, float32 (B,) each, in nats.

        Args:
            index: int64 (B,), which pairs.
        """
        assert self._table is not None
        chosen, rejected = self._table[index.cpu()].to(index.device).unbind(dim=1)
        return chosen, rejected

    def of_all(self) -> tuple[Tensor, Tensor]:
        """Return those of all pairs, float32 (N,) each, on the CPU."""
        return self.of(torch.arange(len(self._collate.pairs)))

    def fill_once(
        self, score: Callable[[dict[str, Tensor]], Tensor], batch_size: int, moved_at: int | None = None
    ) -> None:
        """Find or score all pairs, unless that is done. Every rank must call it; each scores its share.

        Args:
            score: takes a batch of B pairs to the log-probabilities of their replies, (2B,), chosen ones first.
            batch_size: pairs scored at a time.
            moved_at: the step up to which training has moved the reference itself, so that what is not known cannot be
                scored any more; None where the reference stands still.

        Raises:
            ReferenceCacheError: a log-probability is not finite, or not known and the reference is gone.
        """
        if self._table is not None:
            return
        keys = self._keys.of_pairs()
        known: Numbers = ranks.of_first(self._known)
        missing = [i for i in self._by_length() if keys[i] not in known]
        if missing and moved_at is not None:
            raise ReferenceCacheError(
                f"reference_cache: {len(missing)} of {len(keys)} pairs are not known in {self._cache.folder}, and "
                f"after {moved_at} steps the reference is not there any more to score them; give the folder that the "
                "run began with, or let the same recipe score them anew, in another output_dir up to its first step"
            )
        if missing and ranks.rank() == 0:
            print(f"reference: {len(keys) - len(missing)} of {len(keys)} pairs are known, {len(missing)} are scored")
        mine = self._score(missing, keys, score, batch_size)
        for numbers in ranks.gather_shares([mine]):
            known |= numbers
        self._table = torch.tensor([known[key] for key in keys])

    def _known(self) -> Numbers:
        known, damaged = self._cache.load(self._reference)
        for path in damaged:
            print(f"reference_cache: {path} is damaged; it is deleted and its pairs are scored anew")
        return known

    def _by_length(self) -> list[int]:
        return [row["index"] for row in self._collate.longest(len(self._collate.pairs))]

    def _score(
        self, missing: list[int], keys: list[bytes], score: Callable[[dict[str, Tensor]], Tensor], batch_size: int
    ) -> Numbers:
        """Score this rank's share and return it; what is found goes to disk a shard a minute."""
        found: Numbers = {}
        pending: Numbers = {}
        last_s = time.monotonic()
        for indices, is_real in ranks.even_batches(missing, batch_size):
            logps = score(self._collate([{"index": i} for i in indices])).float().cpu().view(2, -1).T
            if not is_real:
                continue
            if not logps.isfinite().all():
                raise ReferenceCacheError(
                    f"the reference's log-probability of a reply of pairs {indices} is not finite; its weights are "
                    "damaged, or a precision does not fit them: look at the validation numbers of launch/sft.py"
                )
            pending |= {
                keys[i]: (chosen, rejected) for i, (chosen, rejected) in zip(indices, logps.tolist(), strict=True)
            }
            if time.monotonic() - last_s > _SHARD_S:
                self._cache.add(self._reference, pending)
                found, pending, last_s = found | pending, {}, time.monotonic()
                if ranks.rank() == 0:
                    print(f"reference: {len(found)} of this rank's {len(ranks.share(missing))} are scored", flush=True)
        if pending:
            self._cache.add(self._reference, pending)
        return found | pending


__all__ = ["ReferenceScores"]

"""What is kept of pairs between steps and runs, where a folder is given for it; tables are empty when they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epo import ranks
from epo.preferences.pair import PreferencePair
from epo.training.collate import PairCollator
from epo.training.encoder_cache import EncoderCache
from epo.training.kept_prompts import KeptPrompts
from epo.training.reference_cache import ReferenceCache
from epo.training.reference_keys import PairKeys, reference_digest
from epo.training.reference_scores import ReferenceScores


@dataclass(frozen=True)
class KeptTables:
    """Tables of pairs, None for what is not kept.

    Attributes:
        prompts: what is encoded of them.
        reference: what the reference says of them.
        held_out: what it says of held-out pairs.
    """

    prompts: KeptPrompts | None = None
    reference: ReferenceScores | None = None
    held_out: ReferenceScores | None = None

    @classmethod
    def of(
        cls,
        caches: tuple[EncoderCache | None, ReferenceCache | None],
        model: Any,
        precision: str,
        collate: PairCollator,
        held_out: Sequence[PreferencePair],
    ) -> "KeptTables":
        """Make the tables. Every rank must call it.

        Args:
            caches: where prompts and the reference's scores are kept.
            model: the reference, whose encoders are the policy's.
            precision: as accelerate calls it.
            collate: makes batches of the pairs.
            held_out: pairs that only the reference scores.

        Raises:
            ReferenceCacheError: the model's weights are spread over ranks already.
        """
        encoded, scores = caches
        if encoded is None and scores is None:
            return cls()
        digest = ranks.of_first(lambda: reference_digest(model, precision))
        keys = PairKeys(collate, pairs=scores is not None, prompts=encoded is not None)
        prompts = None if encoded is None else KeptPrompts(encoded, digest, collate, keys)
        if scores is None:
            return cls(prompts)
        others = PairCollator(held_out, collate.build) if held_out else None
        return cls(
            prompts,
            ReferenceScores(scores, digest, collate, keys),
            None if others is None else ReferenceScores(scores, digest, others, PairKeys(others)),
        )


__all__ = ["KeptTables"]

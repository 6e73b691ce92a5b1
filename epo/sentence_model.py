"""Models that give sentences embeddings, read by sentence-transformers."""

from typing import TYPE_CHECKING

from epo.extras import missing_extra
from epo.part_names import find_part, read_part

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load_sentence_model(model: str, key: str) -> "SentenceTransformer":
    """Load a sentence-transformers model, from safetensors only; code of the model's own is refused.

    Args:
        model: a folder or a name on the hub (`epo.part_names`).
        key: of the recipe that names it, for messages.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        PartError: there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise missing_extra(f"{key} {model!r}", "sentence_transformers") from None
    return read_part(
        SentenceTransformer, find_part(model), trust_remote_code=False, model_kwargs={"use_safetensors": True}
    )


__all__ = ["load_sentence_model"]

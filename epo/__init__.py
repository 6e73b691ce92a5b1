"""Train models that hear and see how a person feels, and answer fittingly: the public names of the library.

They are loaded when they are used, so that importing `epo` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.modeling import MambaCompressor
    from compressor.streaming import MemoryStream
    from epo.data.dialogue import Dialogue, read_dialogues
    from epo.data.replies import Reply, replies_of
    from epo.evaluation.conversation import Conversation, Conversations
    from epo.evaluation.evaluating import evaluate
    from epo.evaluation.generate import answer
    from epo.model.export import export_model
    from epo.model.family import load_of_family as load_model
    from epo.model.loading import join_parts, load_adapter
    from epo.preferences.builder import build_pairs
    from epo.preferences.pair import PreferencePair, read_pairs, write_pairs
    from epo.training.arguments import EpoArguments
    from epo.training.encoder_cache import EncoderCache
    from epo.training.lora import prepare_for_tuning
    from epo.training.reference_cache import ReferenceCache
    from epo.training.sft import SftTrainer
    from epo.training.trainer import EpoTrainer

_HOMES = {
    "Conversation": "epo.evaluation.conversation",
    "Conversations": "epo.evaluation.conversation",
    "Dialogue": "epo.data.dialogue",
    "EncoderCache": "epo.training.encoder_cache",
    "EpoArguments": "epo.training.arguments",
    "EpoTrainer": "epo.training.trainer",
    "MambaCompressor": "compressor.modeling",
    "MemoryStream": "compressor.streaming",
    "PreferencePair": "epo.preferences.pair",
    "ReferenceCache": "epo.training.reference_cache",
    "Reply": "epo.data.replies",
    "SftTrainer": "epo.training.sft",
    "answer": "epo.evaluation.generate",
    "build_pairs": "epo.preferences.builder",
    "evaluate": "epo.evaluation.evaluating",
    "export_model": "epo.model.export",
    "join_parts": "epo.model.loading",
    "load_adapter": "epo.model.loading",
    "load_model": "epo.model.family:load_of_family",
    "prepare_for_tuning": "epo.training.lora",
    "read_dialogues": "epo.data.dialogue",
    "read_pairs": "epo.preferences.pair",
    "replies_of": "epo.data.replies",
    "write_pairs": "epo.preferences.pair",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("epo-trainer")
    if name not in _HOMES:
        raise AttributeError(f"module 'epo' has no attribute {name!r}; it has {', '.join(__all__)}")
    home, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(home), attribute or name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]


__all__ = [
    "Conversation",
    "Conversations",
    "Dialogue",
    "EncoderCache",
    "EpoArguments",
    "EpoTrainer",
    "MambaCompressor",
    "MemoryStream",
    "PreferencePair",
    "ReferenceCache",
    "Reply",
    "SftTrainer",
    "answer",
    "build_pairs",
    "evaluate",
    "export_model",
    "join_parts",
    "load_adapter",
    "load_model",
    "prepare_for_tuning",
    "read_dialogues",
    "read_pairs",
    "replies_of",
    "write_pairs",
]

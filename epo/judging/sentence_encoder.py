"""Sentence encoder: one vector a text, by a model that was published for sentence-transformers, which is not needed."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from compressor.progress import show_progress
from epo.data.dialogue import DataError
from epo.part_names import find_part

Vectors = NDArray[np.float32]
_BATCH = 64
_LONGEST = 512  # tokens, where neither the model nor its tokenizer says less
_MODULES = "modules.json"
_REMEDY = "name another sentence model, such as sentence-transformers/all-MiniLM-L6-v2"
_SUBFOLDER = re.compile(r"\w+")  # a file of the model must not name one outside of its folder


@dataclass(frozen=True)
class Pooling:
    """How the states of the tokens become one vector.

    Attributes:
        mode: mean over the tokens that are no padding, or the first token's state.
        is_normalised: whether the vector has length 1.
        max_tokens: longest text in tokens, its end cut off; None: what the model takes.
        is_lower_cased: whether texts are lower-cased first.
    """

    mode: Literal["mean", "cls"] = "mean"
    is_normalised: bool = False
    max_tokens: int | None = None
    is_lower_cased: bool = False


class SentenceEncoder:
    """Embeds texts with an encoder of transformers, pooled as its `modules.json` says."""

    def __init__(self, model: Any, tokenizer: Any, pooling: Pooling, name: str) -> None:
        """Take a loaded model.

        Args:
            model: an encoder whose output has `last_hidden_state`.
            tokenizer: its own.
            pooling: how its states become a vector.
            name: of the model, for messages.
        """
        self._model, self._tokenizer, self._pooling, self.name = model.eval(), tokenizer, pooling, name
        limits = (
            pooling.max_tokens, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)
        )  # fmt: skip
        self._max_tokens = min([_LONGEST, *(int(limit) for limit in limits if limit is not None)])

    @classmethod
    def load(cls, name: str) -> Self:
        """Load a model by its folder or hub name.

        A model without `modules.json` is pooled by the mean and not normalised, as sentence-transformers does.

        Raises:
            PartError: it cannot be found or is damaged, or has no safetensors.
            DataError: its `modules.json` asks for what is not supported; the message says what.
        """
        import torch
        from transformers import AutoModel

        from epo.model.checkpoints import load_weights
        from epo.model.parts import load_tokenizer

        model = load_weights(AutoModel, name)
        pooling = _read_pooling(name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), load_tokenizer(name, ()), pooling, name)

    @property
    def digest(self) -> str:
        """A hash of all that an embedding depends on: weights, vocabulary and pooling."""
        found = hashlib.sha256(repr((self._pooling, self._max_tokens)).encode())
        found.update(json.dumps(self._tokenizer.get_vocab(), sort_keys=True).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            found.update(key.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:32]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (N, H); texts that are alike are embedded once.

        Args:
            texts: any; of one longer than the model reads, the end is cut off.
        """
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # of like length together: little padding
        starts = range(0, len(distinct), _BATCH)
        batches = starts if len(starts) < 20 else show_progress(starts, "embed", "batches")
        vectors = [self._embed(distinct[start : start + _BATCH]) for start in batches]
        place_of = {text: place for place, text in enumerate(distinct)}
        whole = np.concatenate(vectors) if vectors else np.zeros((0, int(self._model.config.hidden_size)), np.float32)
        return whole[[place_of[text] for text in texts]]

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of one batch."""
        import torch

        said = [text.lower() for text in texts] if self._pooling.is_lower_cased else list(texts)
        batch = self._tokenizer(
            said, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            states_NTH = self._model(**batch).last_hidden_state
            if self._pooling.mode == "cls":
                vectors_NH = states_NTH[:, 0]
            else:
                is_token_NT1 = batch["attention_mask"].unsqueeze(-1).to(states_NTH.dtype)
                vectors_NH = (states_NTH * is_token_NT1).sum(dim=1) / is_token_NT1.sum(dim=1).clamp(min=1)
            if self._pooling.is_normalised:
                vectors_NH = torch.nn.functional.normalize(vectors_NH, dim=-1)
        vectors: Vectors = vectors_NH.float().cpu().numpy()
        return vectors


def _read_pooling(name: str) -> Pooling:
    """Return what the files beside a model say of pooling.

    Raises:
        DataError: they ask for something else than an encoder, its mean or first token, and normalising.
    """
    modules = _read_json(name, _MODULES)
    if modules is None:
        return Pooling()
    try:
        kinds = [(str(module["type"]).rpartition(".")[2], str(module.get("path", ""))) for module in modules]
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{name}: {_MODULES} is no list of modules with a `type`; get the model anew") from None
    names = [kind for kind, _ in kinds]
    is_known = names in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
    if not is_known or kinds[0][1] != "" or not _SUBFOLDER.fullmatch(kinds[1][1]):
        raise DataError(
            f"{name}: {_MODULES} asks for {', '.join(names) or 'nothing'}; supported are Transformer in its "
            f"own folder, Pooling and Normalize: {_REMEDY}"
        )
    beside = _read_json(name, "sentence_bert_config.json")
    settings = beside if isinstance(beside, dict) else {}
    pooling = _read_json(name, f"{kinds[1][1]}/config.json")
    return Pooling(
        _pooling_mode(name, pooling if isinstance(pooling, dict) else {}),
        len(kinds) == 3,
        settings.get("max_seq_length"),
        bool(settings.get("do_lower_case", False)),
    )


def _pooling_mode(name: str, config: dict[str, Any]) -> Literal["mean", "cls"]:
    """Return the one mode of a pooling module's settings, which are flags or, newer, a word."""
    flags = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    chosen = [flags.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    word = config.get("pooling_mode")
    if word is not None:
        chosen = [word] if isinstance(word, str) else list(word)
    if chosen == ["mean"]:
        return "mean"
    if chosen == ["cls"]:
        return "cls"
    raise DataError(
        f"{name}: its pooling is {', '.join(map(str, chosen)) or 'not said'}; supported are the mean over tokens and "
        f"the first token: {_REMEDY}"
    )


def _read_json(name: str, file: str) -> Any:
    """Return the content of a JSON file of a model, None where the model has no such file."""
    path = _file_of(name, file)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error}); get the model anew") from error


def _file_of(name: str, file: str) -> Path | None:
    """Return where a file of a model lies, None where it has none: in its folder, or fetched from the hub."""
    place = find_part(name)
    if place.is_local or Path(place.source).is_dir():
        path = Path(place.source) / file
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(place.source, file, **place.settings))
    except LocalEntryNotFoundError as error:
        raise DataError(f"{name}: {file} is not on this machine and the hub is out of reach; name a folder") from error
    except EntryNotFoundError:
        return None


__all__ = ["Pooling", "SentenceEncoder", "Vectors"]

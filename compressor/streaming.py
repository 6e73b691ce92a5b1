"""Streaming: one turn in, its memory out, with a state of constant size; many dialogues at once, saved and restored."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compressor.modeling import MambaCompressor
from compressor.seams import cache_name, cache_of_states, states_of_cache

_FORMAT = "memory stream 1"
_STREAMING = ("mamba2", "mamba")


class StreamError(ValueError):
    """What a stream cannot read or go on from; the message says what came, what is wanted and what to do."""


def can_stream(compressor: MambaCompressor) -> bool:
    """Tell whether a compressor keeps a state of constant size from which it goes on: a Mamba or Mamba-2 does."""
    config = compressor.config
    return config.model_type == "mamba_compressor" and config.backbone_config.model_type in _STREAMING


class MemoryStream:
    """Compresses dialogues turn by turn, as live conversations need it.

    The Mamba state takes the place of the turns read so far, so a turn costs the same however long the talk is. The
    memories equal those of the whole history at once, up to rounding, wherever it is cut. Each dialogue is a row of the
    state: rows are read together or one by one, in any order, and know nothing of each other.
    """

    def __init__(self, compressor: MambaCompressor, num_dialogues: int = 1) -> None:
        """Start with dialogues in which nothing was said.

        Args:
            compressor: in evaluation mode.
            num_dialogues: how many rows the state has.

        Raises:
            StreamError: the compressor keeps no state from which it could go on.
        """
        family = compressor.config.backbone_config.model_type
        if not can_stream(compressor):
            raise StreamError(
                f"a {compressor.config.model_type} over {family!r} reads whole histories and keeps no state; stream "
                "with a mamba_compressor over 'mamba2', or give this one the whole history at each turn"
            )
        self._compressor = compressor
        # transformers' Mamba-1 begins at a zero state wherever more than one position is given to it.
        self._is_one_by_one = family == "mamba"
        self._num_dialogues = num_dialogues
        self._states: list[Tensor] | None = None

    @property
    def num_dialogues(self) -> int:
        """How many rows the state has."""
        return self._num_dialogues

    def append(self, turn_ids: Sequence[int], dialogue: int = 0) -> Tensor:
        """Read one turn, or any piece of a history, of one dialogue and return its memory.

        Args:
            turn_ids: the turn's token ids followed by its memory slots, as `compressor.data.encode_turn` makes them.
            dialogue: whose turn it is.

        Returns:
            (k, D), in the compressor's dtype: a row for each memory slot that was given.

        Raises:
            StreamError: there is no such dialogue, or no such memory slot.
        """
        return self.append_many({dialogue: turn_ids})[dialogue]

    @torch.no_grad()
    def append_many(self, turns: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
        """Read a turn of each of several dialogues together and return their memories.

        Args:
            turns: ids as of `append`, by dialogue; of any lengths. An empty one leaves its dialogue as it was.

        Returns:
            (k, D) for each dialogue.

        Raises:
            StreamError: there is no such dialogue, or no such memory slot.
        """
        self._require_readable(turns)
        hidden: dict[int, list[Tensor]] = {dialogue: [] for dialogue in turns}
        for starts, size in _pieces({row: len(ids) for row, ids in turns.items()}, self._is_one_by_one):
            piece = self._read(list(starts), [turns[row][start : start + size] for row, start in starts.items()])
            for row, states in zip(starts, piece.unbind(0), strict=True):
                hidden[row].append(states)
        return {dialogue: self._memory(turns[dialogue], states) for dialogue, states in hidden.items()}

    def select(self, dialogues: Sequence[int]) -> "MemoryStream":
        """Return a stream of its own whose rows go on from these: one alone, some, or one of them several times."""
        self._require_rows(dialogues)
        chosen = MemoryStream(self._compressor, len(dialogues))
        if self._states is not None:
            index = torch.tensor(list(dialogues), device=self._compressor.device)
            chosen._states = [state.index_select(0, index) for state in self._states]
        return chosen

    def save(self, path: str | Path) -> None:
        """Write the state as safetensors, with what it may be read by: k, and a fingerprint of the compressor."""
        tensors = {f"state.{i}": state.cpu().contiguous() for i, state in enumerate(self._states or [])}
        said = {"num_dialogues": str(self._num_dialogues), **_identity(self._compressor)}
        partial = Path(f"{path}.partial")
        save_file(tensors, partial, metadata=said)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path, compressor: MambaCompressor) -> "MemoryStream":
        """Return a stream that goes on where the saved one stopped.

        Raises:
            StreamError: the file cannot be read, or was written by another compressor.
        """
        try:
            with safe_open(path, "pt", device="cpu") as file:
                said = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise StreamError(f"{path}: not the state of a memory stream ({error}); write one with `save`") from error
        wanted = _identity(compressor)
        for name, value in wanted.items():
            if said.get(name) != value:
                raise StreamError(
                    f"{path}: its {name.replace('_', ' ')} is {said.get(name, 'not said')}, this compressor's {value}; "
                    "load it with the compressor that wrote it, or begin the dialogue anew"
                )
        stream = cls(compressor, int(said.get("num_dialogues", "1")))
        if tensors:
            stream._states = [tensors[f"state.{i}"].to(compressor.device) for i in range(len(tensors))]
        return stream

    def _read(self, rows: list[int], pieces: list[Sequence[int]]) -> Tensor:
        """Read pieces of one length and return the backbone's states at them, (rows, T, width)."""
        model = self._compressor
        ids = torch.tensor([list(piece) for piece in pieces], device=model.device)
        index = torch.tensor(rows, device=model.device)
        before = None if self._states is None else [state.index_select(0, index) for state in self._states]
        cache = None if before is None else cache_of_states(model.backbone, before)
        name = cache_name(model.backbone)
        output = model.backbone(inputs_embeds=model.embed(ids), use_cache=True, **{name: cache})
        after = states_of_cache(output[name])
        if self._states is None:
            self._states = [state.new_zeros(self._num_dialogues, *state.shape[1:]) for state in after]
        for state, new in zip(self._states, after, strict=True):
            state.index_copy_(0, index, new)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _memory(self, ids: Sequence[int], states: list[Tensor]) -> Tensor:
        """Project the states at the memory slots; none where there are none."""
        model = self._compressor
        is_slot = torch.tensor(list(ids), dtype=torch.long) >= model.vocab_size
        width = model.config.backbone_config.hidden_size
        hidden = torch.cat(states) if states else torch.zeros(0, width, device=model.device, dtype=model.dtype)
        return model.project(hidden[is_slot.to(hidden.device)])

    def _require_readable(self, turns: Mapping[int, Sequence[int]]) -> None:
        self._require_rows(list(turns))
        model = self._compressor
        limit = model.vocab_size + model.config.num_memory_tokens
        for dialogue, ids in turns.items():
            strange = next((token for token in ids if not 0 <= token < limit), None)
            if strange is not None:
                raise StreamError(
                    f"dialogue {dialogue}: id {strange} in a turn, want ids from 0 to {limit - 1}, the last "
                    f"{model.config.num_memory_tokens} of them memory slots; encode turns with this compressor's "
                    "tokenizer and k"
                )

    def _require_rows(self, dialogues: Sequence[int]) -> None:
        strange = next((row for row in dialogues if not 0 <= row < self._num_dialogues), None)
        if strange is not None:
            raise StreamError(
                f"dialogue {strange} of a stream of {self._num_dialogues}; want 0 to {self._num_dialogues - 1}: say "
                "num_dialogues when the stream is made"
            )


def _pieces(lengths: Mapping[int, int], is_one_by_one: bool) -> list[tuple[dict[int, int], int]]:
    """Cut turns of several lengths into pieces that are read together: where each row's begins, and how long all are.

    Where all are equally long, that is one piece. Else each is cut into powers of two, the last piece up to three
    positions long, so that a few passes read them all without one position of padding, which no state would forget.

    Args:
        lengths: by row.
        is_one_by_one: whether each piece is to have one position.
    """
    is_whole = len(set(lengths.values())) == 1
    found: list[tuple[dict[int, int], int]] = []
    at = dict.fromkeys(lengths, 0)
    while pending := {row: lengths[row] - at[row] for row in lengths if at[row] < lengths[row]}:
        sizes = {
            row: 1 if is_one_by_one else left if is_whole else _largest_piece(left) for row, left in pending.items()
        }
        size = max(sizes.values())
        starts = {row: at[row] for row in pending if sizes[row] == size}
        found.append((starts, size))
        at |= {row: start + size for row, start in starts.items()}
    return found


def _largest_piece(length: int) -> int:
    """Return the piece that a turn begins with: the largest power of two, but never so that one position is left."""
    if length <= 3:
        return length
    size = 1 << (length.bit_length() - 1)
    return size if length - size != 1 else size // 2


def _identity(compressor: MambaCompressor) -> dict[str, str]:
    """Return what a state's reader must have in common with its writer."""
    digest = hashlib.sha256()
    for name, weight in sorted(compressor.state_dict().items()):
        digest.update(name.encode())
        # Rounded, so that float32 and bfloat16 copies agree.
        digest.update(weight.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return {
        "format": _FORMAT,
        "number_of_memory_tokens": str(compressor.config.num_memory_tokens),
        "compressor_fingerprint": digest.hexdigest()[:16],
    }


__all__ = ["MemoryStream", "StreamError", "can_stream"]

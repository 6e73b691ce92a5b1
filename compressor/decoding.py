"""Plain decoding: the most likely token, or a draw from the model's own distribution, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig


@contextmanager
def plain_decoding(model: Any, temperature: float) -> Iterator[dict[str, Any]]:
    """Set aside what would change the model's distribution, and yield the arguments for `model.generate`.

    A checkpoint brings settings of its own for generation (top-p, penalties, forbidden tokens, a least length), and
    transformers samples from the 50 likeliest tokens unless told otherwise; `generate` falls back on both for whatever
    a call does not name. Inside the context neither acts. Where a reply ends stays as the checkpoint says.

    Args:
        model: of transformers, or a PEFT model around one; not used by two threads at once.
        temperature: 0 takes the most likely token; above it the logits are divided by it and all tokens may be drawn.

    Raises:
        ValueError: the temperature is below 0.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}, want 0 (most likely token) or more")
    owner = model.get_base_model() if hasattr(model, "get_base_model") else model
    kept = owner.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    owner.generation_config = GenerationConfig(**{name: getattr(kept, name, None) for name in names})
    try:
        yield {"do_sample": False} if temperature == 0 else {
            "do_sample": True, "temperature": float(temperature), "top_k": 0, "top_p": 1.0,
        }  # fmt: skip
    finally:
        owner.generation_config = kept

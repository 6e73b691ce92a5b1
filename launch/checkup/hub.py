"""The model hub, asked only where it answers at once: a machine without a connection must not wait for it."""

import os
from functools import lru_cache
from typing import Any

_WAIT_S = 3.0


@lru_cache(maxsize=1)
def answers() -> bool:
    """Tell whether the hub can be reached; asked once, and for a few seconds at most."""
    if any(os.environ.get(key, "0").upper() in ("1", "TRUE", "YES", "ON") for key in ("HF_HUB_OFFLINE",)):
        return False
    import urllib.error
    import urllib.request

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_WAIT_S):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def weights_size(name: str, revision: str | None) -> int | None:
    """Return the bytes of a model's safetensors on the hub, None where it does not say."""
    from huggingface_hub import HfApi

    try:
        info: Any = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=_WAIT_S)
    except (OSError, ValueError):
        return None
    sizes = [file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")]
    return sum(sizes) or None


__all__ = ["answers", "weights_size"]

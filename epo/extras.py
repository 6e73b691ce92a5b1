"""Optional packages: which command installs what a thing asked for needs."""

import importlib.util

# Extras of pyproject.toml, by the module that each brings.
_EXTRAS = {
    "bert_score": "metrics",
    "cv2": "faces",
    "gguf": "gguf",
    "bitsandbytes": "quantized",
    "mamba_ssm": "cuda",
    "causal_conv1d": "cuda",
    "starlette": "demo",
    "uvicorn": "demo",
}


class MissingExtraError(ValueError):
    """An optional package that is not installed; the message holds the command that installs it."""


def missing_extra(what: str, module: str) -> MissingExtraError:
    """Return the error to raise where a module is not installed.

    Args:
        what: asked for it, such as "embedding_model" or "source 'parrot'".
        module: as it is imported; one that is no extra of ours is named itself.
    """
    top = module.partition(".")[0]
    wanted = f"'epo-trainer[{_EXTRAS[top]}]'" if top in _EXTRAS else top.replace("_", "-")
    return MissingExtraError(f"{what} needs {top}, which is not installed: pip install {wanted}")


def require_extra(what: str, module: str) -> None:
    """Refuse what an optional package is needed for where it is not installed, without importing it.

    Args:
        what: asks for it, such as "quantize: 4bit".
        module: as it is imported.

    Raises:
        MissingExtraError: holds the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise missing_extra(what, module)


__all__ = ["MissingExtraError", "missing_extra", "require_extra"]

"""Keeps off the console what other libraries say and a user can do nothing about; `EPO_VERBOSE=1` shows it all."""

import logging
import os
import re
import sys
import warnings

from compressor import seams

_WARNINGS = (
    # Of torch about functions of its own that DeepSpeed and accelerate call, at the first step.
    (FutureWarning, r"`torch\.distributed\.\w+` is deprecated"),
    # Of FSDP2 about what a model returns, which nothing here changes in place.
    (UserWarning, r"FSDP2-wrapped module \(\w+\) returned a view tensor"),
    # Of accelerate about its usual port, which another job on this machine has: it takes a free one.
    (UserWarning, r"Port `\d+` is already in use"),
    # Of torch about how transformers' WavLM calls its attention.
    (UserWarning, r"Support for mismatched key_padding_mask and attn_mask is deprecated"),
)

# By logger: the beginnings of the lines that are not shown.
_LINES = {
    "DeepSpeed": "Setting accelerator to CPU",  # as the CPU configs of launch/accelerate ask
    # transformers leaves accumulation to DeepSpeed, whose number is the recipe's.
    "accelerate.accelerator": r"(\[RANK \d+\] )?Gradient accumulation steps mismatch",
    "torch.distributed.run": r"\s*\*+\s*Setting OMP_NUM_THREADS",  # to one thread a rank, which docs/training.md wants
    "mlflow.store.db.utils": "(Creating initial MLflow|Updating) database tables",
    # How a rank ended is said by the rank, and in one line by launch/launcher.py.
    "torch.distributed.elastic.agent.server.api": "Received .* death signal",
    "torch.distributed.elastic.multiprocessing.api": r"failed \(exitcode|(Sending|Closing) process",
    "torch.multiprocessing.spawn": "Terminating process",
}

_KERNELS = "transformers.integrations.hub_kernels"


def settle_console() -> None:
    """Silence in this process the lines and warnings named above, and no others.

    It is cheap, and is called before heavy imports: by every stage, and inside a launcher of our scripts.
    """
    if is_verbose():
        return
    seams.silence_renames()
    for kind, message in _WARNINGS:
        warnings.filterwarnings("ignore", message, kind)
    for name, beginning in _LINES.items():
        logging.getLogger(name).addFilter(_Without(beginning))
    logging.getLogger(_KERNELS).addFilter(_can_get_kernels)
    if not sys.stderr.isatty() or _rank() != 0:
        _hide_bars()


def _hide_bars() -> None:
    """Hide the bars of transformers and of the Hub's client: in a file they are a page of carriage returns."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Whoever read the variable when it was imported must be told: scripts import these libraries before they begin.
    if os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1" and "transformers.utils.logging" in sys.modules:
        sys.modules["transformers.utils.logging"].disable_progress_bar()


def is_verbose() -> bool:
    """Tell whether the user asked to see everything."""
    return os.environ.get("EPO_VERBOSE", "0") not in ("", "0")


class _Without(logging.Filter):
    """Lets every line pass but those that begin in one way."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = re.compile(beginning)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is shown."""
        return self._beginning.match(record.getMessage()) is None


def _can_get_kernels(record: logging.LogRecord) -> bool:
    """Let one rank advise to install Mamba's kernels, where there is a GPU to run them on."""
    if "is falling back to its reference PyTorch implementation" not in record.getMessage():
        return True
    import torch  # loaded by then

    return _rank() == 0 and torch.cuda.is_available()


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))

"""A trained model to give away: one folder with weights, processor and a model card, or the adapter alone."""

import shutil
from pathlib import Path
from typing import Any, Literal

from compressor.precision import cast_weights
from epo.model.checkpoints import DTYPES
from epo.model.family import load_of_family
from epo.model.loading import load_adapter
from epo.model.low_rank import take_in_low_rank
from epo.model.model_card import model_card
from epo.part_names import PartError

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class ExportError(ValueError):
    """A folder that cannot be written to as an export, or nothing to export; says which and what to do."""


def export_model(
    model: str,
    out: str | Path,
    adapter: str | None = None,
    form: Literal["merged", "adapter"] = "merged",
    dtype: Literal["float32", "bfloat16"] = "float32",
    report: str | None = None,
    title: str = "",
) -> Path:
    """Write what `epo.load_model` (merged) or `epo.load_adapter` (adapter) reads back, beside a model card.

    Merged means one model: the adapter, and low-rank changes of earlier stages, are added to the weights in float32,
    and the sums are rounded once, where `dtype` is bfloat16. A weight then keeps 8 bits, so changes of less than 1/512
    of it are lost: the card says so.

    Args:
        model: folder written by launch/sft.py, or any that `epo.load_model` reads.
        out: a folder that is not there yet, or is empty.
        adapter: folder written by launch/epo.py; None exports the model as it is.
        form: one model, or the adapter alone for those who have the model.
        dtype: of the merged weights.
        report: `report.json` of an evaluation, whose numbers the card shows.
        title: of the card; the folder's name where it is empty.

    Returns:
        The folder.

    Raises:
        ExportError: `out` holds something, or an adapter is to be exported and none is named.
        PartError: the model or the adapter cannot be loaded, or they do not fit each other.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already; name a folder that is not, or empty it")
    if form == "adapter" and adapter is None:
        raise ExportError("form: adapter, but no adapter is named; name the folder that launch/epo.py wrote")
    if report is not None and not Path(report).is_file():
        raise ExportError(f"{report}: no such report; name the report.json that launch/evaluate.py wrote")
    if form == "adapter":
        _copy_adapter(str(adapter), folder)
    else:
        _write_merged(model, adapter, dtype, folder)
    sources = [model] if adapter is None else [model, adapter]
    card = model_card(title or folder.name, form, dtype, [Path(source) for source in sources], report)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _write_merged(source: str, adapter: str | None, dtype: str, folder: Path) -> None:
    processor: Any
    model, processor = load_of_family(source, "float32")
    if adapter is not None:
        merged: Any = load_adapter(model, adapter)
        model = merged.merge_and_unload(safe_merge=True)  # which refuses sums that are not finite
    take_in_low_rank(model)
    if hasattr(model.config, "low_rank"):
        model.config.low_rank = None
    model = cast_weights(model, DTYPES[dtype])
    model.config.dtype = dtype
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _copy_adapter(adapter: str, folder: Path) -> None:
    missing = [name for name in _ADAPTER_FILES if not (Path(adapter) / name).is_file()]
    if missing:
        raise PartError(f"{adapter}: has no {missing[0]}; make it with launch/epo.py")
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ADAPTER_FILES:
        shutil.copyfile(Path(adapter) / name, folder / name)


__all__ = ["ExportError", "export_model"]

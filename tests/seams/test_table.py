"""The table of seams is whole: each has its test, and no file reaches into a library without being listed."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from transformers import Trainer

from compressor.checkpointed_trainer import CheckpointedTrainer
from compressor.modeling import MambaCompressor
from compressor.scheduled_trainer import ScheduledTrainer, ScheduleReader
from compressor.seam_table import SEAMS
from compressor.trainer import CompressorTrainer
from epo.model.extractor import EmotionExtractor
from epo.model.modeling import EpoForConditionalGeneration
from epo.training.sft import ExtractorTrainer, SftTrainer, TextTrainer
from epo.training.trainer import EpoTrainer

ROOT = Path(__file__).parents[2]
LIBRARIES = ("trl", "transformers", "peft", "accelerate", "deepspeed")
DOCUMENTED = ("transformers.utils", "transformers.modeling_outputs")
OURS = ("compressor", "epo", "launch")


def test_every_seam_has_its_test():
    marked = [name for path in Path(__file__).parent.glob("test_*.py") for name in marks(path.read_text())]
    assert sorted(marked) == sorted(SEAMS)


def marks(text):
    return re.findall(r'@pytest\.mark\.seam\("(\w+)"\)', text)


def test_every_seam_names_a_module_that_exists():
    for seam in SEAMS.values():
        assert importlib.util.find_spec(seam.used_in) is not None, seam


def deep_imports():
    """Module and library part of each import from below a library's front door."""
    for path in sorted(path for package in OURS for path in (ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = [node.module] if isinstance(node, ast.ImportFrom) else []
            targets += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((name, t) for t in targets if "." in t and t.split(".")[0] in LIBRARIES and t not in DOCUMENTED)


def test_what_lies_below_a_front_door_is_imported_by_the_seams_or_listed():
    found = list(deep_imports())
    assert len(found) >= 5
    listed = {(seam.used_in, seam.package) for seam in SEAMS.values()}
    assert [f"{name} imports {t}" for name, t in found if (name, t.split(".")[0]) not in listed] == []


TRAINERS = (
    CheckpointedTrainer,
    ScheduleReader,
    ScheduledTrainer,
    ExtractorTrainer,
    TextTrainer,
    SftTrainer,
    CompressorTrainer,
    EpoTrainer,
)
MODELS = (MambaCompressor, EmotionExtractor, EpoForConditionalGeneration)


def overrides(kind):
    """Yield the name, our function and the library's function of what a class of ours overrides."""
    for name, ours in vars(kind).items():
        bases = [base for base in kind.__mro__[1:] if base.__module__.split(".")[0] in LIBRARIES and name in vars(base)]
        if inspect.isfunction(ours) and bases and name not in ("__init__", "forward"):
            yield name, ours, vars(bases[0])[name]


@pytest.mark.parametrize("kind", [*TRAINERS, *MODELS], ids=lambda kind: kind.__name__)
def test_what_is_overridden_takes_the_same_arguments_and_is_listed(kind):
    texts = " ".join(seam.text for seam in SEAMS.values())
    for name, ours, theirs in overrides(kind):
        if issubclass(kind, Trainer) or name.startswith("_"):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
            assert f".{name} " in texts or f".{name}(" in texts, f"{name} is overridden but no seam"


def test_the_rule_sees_overrides():
    assert {name for name, *_ in overrides(ScheduledTrainer)} >= {"compute_loss", "log"}
    assert {name for name, *_ in overrides(ScheduleReader)} == {
        "_get_train_sampler",
        "_get_grad_norm",
        "floating_point_ops",
        "training_step",
    }
    assert {name for name, *_ in overrides(EpoForConditionalGeneration)} >= {"get_input_embeddings"}

"""What we override or lean on in TRL and transformers still looks as it did when we wrote it."""

import inspect

import pytest
from transformers import Trainer
from trl import DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from compressor.scheduled_trainer import ScheduledTrainer
from epo.training.sft import SftTrainer
from epo.training.trainer import EpoTrainer

_SIGNATURES = [
    (DPOTrainer, "_prepare_dataset", ["self", "dataset", "processing_class", "args", "dataset_name"]),
    (DPOTrainer, "_set_signature_columns_if_needed", ["self"]),
    (DPOTrainer, "compute_loss", ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]),
    (DPOTrainer, "_compute_loss", ["self", "model", "inputs", "return_outputs"]),
    (Trainer, "compute_loss", ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]),
    (Trainer, "_get_train_sampler", ["self", "train_dataset"]),
    (Trainer, "log", ["self", "logs", "start_time"]),
    (Trainer, "prediction_step", ["self", "model", "inputs", "prediction_loss_only", "ignore_keys"]),
    (Trainer, "create_optimizer", ["self", "model"]),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), _SIGNATURES, ids=[f"{o.__name__}.{n}" for o, n, _ in _SIGNATURES]
)
def test_signatures_are_those_we_override(owner, name, parameters):
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


@pytest.mark.parametrize("ours", [EpoTrainer, ScheduledTrainer, SftTrainer])
def test_our_overrides_take_the_same_arguments(ours):
    theirs = ours.__mro__[1:]
    for name, method in vars(ours).items():
        base = next((vars(parent)[name] for parent in theirs if name in vars(parent)), None)
        if inspect.isfunction(method) and base is not None and name != "__init__":
            assert list(inspect.signature(method).parameters) == list(inspect.signature(base).parameters), name


def test_the_fused_head_offers_what_the_loss_reads():
    parameters = list(inspect.signature(add_fused_lm_head).parameters)
    assert parameters[0] == "model" and "outputs" in parameters


def test_trl_builds_the_loss_of_the_types_and_weights_we_set():
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert 'loss_type == "sigmoid"' in source and 'loss_type == "sft"' in source

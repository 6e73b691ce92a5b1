"""The settings of EPO: EPO wherever they are made, and what would make something else of it refused by name."""

import dataclasses

import pytest
from transformers import TrainingArguments
from trl import DPOConfig

from compressor.fixed_settings import FIXED_IN_TRAINING, FixedSettingError, refuse_changed
from epo.training.arguments import EpoArguments, ObjectiveError

OTHER = {
    "loss_type": ["ipo"], "loss_weights": [1.0, 3.0], "f_divergence_type": "forward_kl",
    "f_alpha_divergence_coef": 0.7, "ld_alpha": 0.5, "use_weighting": True,
    "router_aux_loss_coef": 0.01, "disable_dropout": False, "max_length": 512,
    "truncation_mode": "keep_end", "padding_free": True, "pad_to_multiple_of": 8, "pad_token": "<pad>",
    "dataset_num_proc": 2, "precompute_ref_log_probs": True, "precompute_ref_batch_size": 4, "sync_ref_model": True,
    "ref_model_mixup_alpha": 0.5, "ref_model_sync_steps": 64, "model_init_kwargs": {"dtype": "float32"},
    "trust_remote_code": True, "activation_offloading": True,
    # of transformers
    "train_sampling_strategy": "group_by_length", "length_column_name": "size", "dataloader_drop_last": True,
    "data_seed": 1, "label_smoothing_factor": 0.1, "label_names": ["labels"], "neftune_noise_alpha": 5.0,
    "remove_unused_columns": True, "use_cache": True, "use_liger_kernel": True, "liger_kernel_config": {"rope": True},
    "logging_nan_inf_filter": False, "auto_find_batch_size": True,
}  # fmt: skip
"""Another value of each fixed key."""


def arguments(folder, **changes):
    return EpoArguments(output_dir=str(folder), use_cpu=True, bf16=False, **changes)


def test_arguments_made_from_python_are_epo(tmp_path):
    args = arguments(tmp_path, beta=0.2, alpha=0.4)
    assert (args.loss_type, args.loss_weights) == (["sigmoid", "sft"], [1.0, 0.4])
    assert (args.beta, args.max_length, args.remove_unused_columns) == (0.2, None, False)
    assert (args.router_aux_loss_coef, args.disable_dropout, args.label_smoothing) == (0.0, True, 0.0)


def test_arguments_can_be_copied(tmp_path):
    args = arguments(tmp_path, alpha=0.4)
    again = dataclasses.replace(args, learning_rate=1e-4)
    assert (again.loss_weights, again.learning_rate) == ([1.0, 0.4], 1e-4)


@pytest.mark.parametrize("loss", ["ipo", "robust"])
def test_a_loss_of_trls_is_named_in_its_words_and_can_be_copied(tmp_path, loss):
    args = arguments(tmp_path, preference_loss=loss, alpha=0.4)
    assert (args.loss_type, args.loss_weights) == ([loss, "sft"], [1.0, 0.4])
    assert dataclasses.replace(args, learning_rate=1e-4).loss_type == [loss, "sft"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference_loss": "simgoid"}, "preference_loss is 'simgoid'; the nearest is 'sigmoid', want one of TRL's: "),
        ({"preference_loss": "sft"}, "preference_loss is 'sft', which is EPO's term gold_nll: set alpha instead"),
        (
            {"label_smoothing": 0.1},
            "label_smoothing would do nothing: preference_loss is sigmoid; leave it out, or set",
        ),
        ({"preference_loss": "robust", "label_smoothing": 0.5}, "label_smoothing is 0.5, want a share .* to below 0.5"),
        ({"preference_loss": "exo_pair"}, "label_smoothing is 0.0, whose logarithm exo_pair takes: set it, to 0.001"),
        ({"discopop_tau": 0.1}, "discopop_tau would do nothing: preference_loss is sigmoid; .* reads it: discopop$"),
        ({"preference_loss": "discopop", "discopop_tau": 0.0}, "discopop_tau is 0.0, want a number above 0"),
        (
            {"preference_loss": "ipo", "emotion_margin": 1.0},
            "emotion_margin would do nothing: .*ipo compares no margin",
        ),
        (
            {"preference_loss": "ipo", "length_normalised": True},
            "length_normalised would do nothing: .* a token anyway",
        ),
        ({"emotion_margin": -1.0}, "emotion_margin is -1.0, want a finite number, 0 or more"),
        ({"conditional_weight": float("inf")}, "conditional_weight is inf, want a finite number, 0 or more"),
        ({"anchor_margin": 0.5}, "anchor_margin would do nothing: anchor_weight is 0; leave it out, or set anchor_w"),
        ({"conditional_swap": "audio"}, "conditional_swap would do nothing: conditional_weight is 0; leave it out, or"),
        ({"extra_terms": {"anchor": 1.0}}, "extra_terms: anchor is EPO's own term; its weight is anchor_weight: leave"),
    ],
)
def test_settings_that_make_no_objective_are_refused(tmp_path, changes, message):
    with pytest.raises(ObjectiveError, match=message) as caught:
        arguments(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(EpoArguments.FIXED | FIXED_IN_TRAINING))
def test_what_is_fixed_is_refused_by_name(tmp_path, key):
    if key not in {field.name for field in dataclasses.fields(EpoArguments)}:
        pytest.skip("this version of transformers does not know the key")
    with pytest.raises(FixedSettingError, match=rf"^{key} is .*, but .*(; .*| instead)$") as caught:
        arguments(tmp_path, **{key: OTHER[key]})
    assert "\n" not in str(caught.value)


def test_every_key_that_trl_adds_is_the_objectives_or_fixed():
    """All but beta, what its losses read, the rate, and what transformers has too, whose default TRL changes."""
    theirs = {field.name for field in dataclasses.fields(DPOConfig)}
    added = theirs - {field.name for field in dataclasses.fields(TrainingArguments)}
    assert added - EpoArguments.FIXED.keys() == {"beta", "label_smoothing", "discopop_tau"}


def test_a_key_of_another_version_is_passed_over_and_those_after_it_are_looked_at():
    fixed = {"no_such_key": "it went; leave it out", "use_cache": "there is none; leave it out"}
    refuse_changed({"no_such_key": 3}, TrainingArguments, fixed)
    with pytest.raises(FixedSettingError, match="use_cache is 7, but there is none"):
        refuse_changed({"no_such_key": 3, "use_cache": 7}, TrainingArguments, fixed)

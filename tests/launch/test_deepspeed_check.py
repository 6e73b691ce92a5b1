"""DeepSpeed settings that would quietly make a run another one than its recipe says are told in one line."""

import pytest
import yaml

from launch.deepspeed_check import wrong_deepspeed
from launch.keys.shipped import ROOT

AUTO = dict.fromkeys(
    ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"), "auto"
)
WHOLE = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}


@pytest.fixture(autouse=True)
def own_file(monkeypatch):
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "mine.json")


@pytest.mark.parametrize(
    "settings",
    [
        {"zero_optimization": {"stage": 2}},
        {"zero_optimization": WHOLE | {"offload_param": {"device": "cpu"}}, "zero_allow_untested_optimizer": True},
        {
            "fp16": {"enabled": False},
            "bf16": {"enabled": "auto"},
            "wall_clock_breakdown": True,
            "amp": {"enabled": False},
        },
        {"zero_optimization": {"stage": 1}, "tensor_parallel": {}, "elasticity": None, "sequence_parallel_size": 1},
    ],
)
def test_settings_that_leave_the_recipe_its_own_pass(settings):
    assert wrong_deepspeed(AUTO | settings) is None


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"optimizer": {"type": "AdamW"}}, "mine.json: optimizer would take the place of what the recipe says"),
        ({"scheduler": {"type": "WarmupLR"}}, "leave it out, the recipe has lr_scheduler_type and warmup_steps"),
        ({"fp16": {"enabled": True}}, "mine.json: fp16 would take the place"),
        ({"tensor_parallel": {"autotp_size": 2}}, "mine.json: tensor_parallel"),
        ({"sequence_parallel_size": 2}, "mine.json: sequence_parallel_size"),
        (
            {"gradient_clipping": 0.5},
            'mine.json: gradient_clipping: want "auto", because the recipe says it (max_grad_',
        ),
        ({"train_batch_size": 16}, 'mine.json: train_batch_size: want "auto"'),
        ({"zero_optimization": {"stage": 3}}, 'set "stage3_gather_16bit_weights_on_model_save": true'),
    ],
)
def test_what_would_train_otherwise_is_refused(settings, wanted):
    refused = wrong_deepspeed(AUTO | settings)
    assert wanted in refused and "\n" not in refused


def test_what_a_file_does_not_say_is_asked_for():
    """Without `gradient_clipping` DeepSpeed clips nothing, whatever max_grad_norm says."""
    refused = wrong_deepspeed({key: "auto" for key in AUTO if key != "gradient_clipping"})
    assert refused.startswith("mine.json: gradient_clipping: want")


def test_without_a_file_the_accelerate_configuration_is_named(monkeypatch):
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    refused = wrong_deepspeed(AUTO | {"zero_optimization": {"stage": 3}})
    assert refused.startswith("deepspeed_config of the accelerate configuration: ")
    assert refused.endswith("set zero3_save_16bit_model: true")


def test_the_configurations_that_come_along_can_save_what_they_train():
    found = [yaml.safe_load(path.read_text()) for path in ROOT.glob("launch/accelerate/*.yaml")]
    zero3 = [
        config["deepspeed_config"] for config in found if config.get("deepspeed_config", {}).get("zero_stage") == 3
    ]
    assert len(zero3) == 4 and all(config["zero3_save_16bit_model"] for config in zero3)

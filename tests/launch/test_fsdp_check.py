"""FSDP settings that would do nothing here, or were never tried, are told in one line."""

import pytest
import yaml

from launch.fsdp_check import wrong_fsdp
from launch.keys.shipped import ROOT

AS_LAUNCHED = {
    "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_OFFLOAD_PARAMS": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false",
}  # fmt: skip


@pytest.fixture
def launched(monkeypatch):
    """Tell this process settings of FSDP as accelerate's launcher does."""

    def launch(changes):
        for name, value in (AS_LAUNCHED | changes).items():
            monkeypatch.setenv(name, value)

    return launch


@pytest.mark.parametrize("changes", [{}, {"FSDP_AUTO_WRAP_POLICY": "no_wrap"}, {"FSDP_IGNORED_MODULES": ""}])
def test_what_was_tried_passes(launched, changes):
    launched(changes)
    assert wrong_fsdp() is None


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"FSDP_VERSION": "1"}, "only version 2 was tried; set fsdp_version: 2"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "set fsdp_cpu_ram_efficient_loading: false"),
        ({"FSDP_RESHARD_AFTER_FORWARD": "full_shard"}, "set fsdp_reshard_after_forward: true"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "launch/accelerate/zero3-offload.yaml was; set fsdp_offload_params: false"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "the recipe has gradient_checkpointing; set fsdp_activation_check"),
        ({"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}, "leave fsdp_auto_wrap_policy out"),
        ({"FSDP_IGNORED_MODULES": "extractor.*"}, "leave fsdp_ignored_modules out"),
    ],
)
def test_what_would_do_nothing_or_was_never_tried_is_refused(launched, changes, wanted):
    launched(changes)
    refused = wrong_fsdp()
    assert refused.startswith("fsdp: ") and wanted in refused and "\n" not in refused


@pytest.mark.parametrize("name", ["fsdp2.yaml", "fsdp2-cpu.yaml"])
def test_the_configurations_that_come_along_pass(launched, name):
    said = yaml.safe_load((ROOT / "launch/accelerate" / name).read_text())["fsdp_config"]
    launched({key.upper(): str(value).lower() for key, value in said.items()})
    assert wrong_fsdp() is None

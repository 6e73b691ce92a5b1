"""Names each test after the seam it pins, so that a failure says which library changed and what was relied upon."""

import pytest

from compressor.seam_table import SEAMS


def pytest_configure(config):
    config.addinivalue_line("markers", "seam(name): pins one entry of `compressor.seam_table.SEAMS`")


def pytest_generate_tests(metafunc):
    found = [SEAMS[marker.args[0]] for marker in metafunc.definition.iter_markers("seam")]
    if found:
        metafunc.parametrize("seam", found, ids=[f"{seam.package}: {seam.text}" for seam in found], indirect=True)


@pytest.fixture(autouse=True)
def seam(request):
    """The seam a test is about; its package and text are the test's id."""
    return getattr(request, "param", None)


@pytest.fixture
def build(model_and_processor, clip_cache):
    from epo.training.collate import PromptBuilder

    return PromptBuilder(model_and_processor[1], clip_cache)


@pytest.fixture
def make_epo_trainer(model_and_processor, build, pairs, tmp_path):
    """Build an `EpoTrainer`, or a subclass of it, on the tiny model."""
    from compressor.curriculum import ScheduledDataset
    from epo.training.arguments import EpoArguments
    from epo.training.collate import PairCollator
    from epo.training.lora import lora_config
    from epo.training.trainer import EpoTrainer

    def make(kind=EpoTrainer, given=None, **changes):
        settings = {
            "max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no", "report_to": "none",
            "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True, "beta": 0.3,
            "alpha": 0.7,
        }  # fmt: skip
        model = model_and_processor[0]
        return kind(
            model=model, args=EpoArguments(output_dir=str(tmp_path), **(settings | changes)),
            train_dataset=ScheduledDataset(len(pairs), 64, seed=0), data_collator=PairCollator(pairs, build),
            processing_class=build.processor,
            **({"peft_config": lora_config(model, 4, 8, 0.0)} if given is None else given),
        )  # fmt: skip

    return make

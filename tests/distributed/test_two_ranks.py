"""Two ranks are one run: reductions count rightly, a broken loss stops both, and the numbers are those of one rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def saved_model(make_model, tmp_path):
    """The tiny model in a folder, its LoRA-free weights the same for every run."""
    model, processor = make_model()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_two_ranks_equal_one_with_accumulation(saved_model, corpus, tmp_path):
    """Two ranks with two examples each against one rank with two times two; SFT of all weights, EPO, EPO with
    the reference's scores kept in a folder, EPO with the pairs of a rank in one row, both of these under FSDP2, and an
    extractor's ratings."""
    import rank_bodies

    folders = (saved_model, str(corpus), str(tmp_path))
    mp.spawn(rank_bodies.start, (rank_bodies.check_and_train, str(tmp_path / "store"), 2, folders), 2)
    rank_bodies.train_sft(*folders, accumulation=2)
    rank_bodies.train_epo(*folders, accumulation=2)
    rank_bodies.train_vad(*folders, accumulation=2)
    online, cached = (
        torch.tensor(json.loads((tmp_path / f"{kind}-True.json").read_text())) for kind in ("epo", "cached")
    )
    torch.testing.assert_close(cached[:, 0], online[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cached[:, 1], online[:, 1], atol=1e-4, rtol=1e-4)
    assert len(list((tmp_path / "reference").glob("*/*.safetensors"))) == 2  # each rank scored its share
    packed = torch.tensor(json.loads((tmp_path / "packed-True.json").read_text()))
    torch.testing.assert_close(packed, online, atol=1e-5, rtol=1e-5)
    sharded = torch.tensor(json.loads((tmp_path / "sharded-True.json").read_text()))
    torch.testing.assert_close(sharded, online, atol=1e-5, rtol=1e-5)
    plain = load_file(tmp_path / "epo-True.safetensors")
    for kind in ("packed", "sharded"):
        weights = load_file(tmp_path / f"{kind}-True.safetensors")
        assert max((weights[name] - plain[name]).norm() / (plain[name].norm() + 1e-6) for name in plain) < 1e-5
    before = load_file(Path(saved_model) / "model.safetensors")
    for stage in ("sft", "epo", "vad"):
        curves = [torch.tensor(json.loads((tmp_path / f"{stage}-{r}.json").read_text())) for r in (True, False)]
        assert curves[0].shape == (rank_bodies.STEPS, 2)
        torch.testing.assert_close(curves[0], curves[1], atol=1e-4, rtol=1e-4, msg=lambda m, s=stage: f"{s}: {m}")
        two, one = (load_file(tmp_path / f"{stage}-{r}.safetensors") for r in (True, False))
        gaps = {name: (two[name] - one[name]).abs().max().item() for name in one}
        assert two.keys() == one.keys() and max(gaps.values()) < 1e-5, (stage, max(gaps, key=gaps.get))
    moved = load_file(tmp_path / "sft-False.safetensors")
    changes = [(moved[name] - tensor).abs().max().item() for name, tensor in before.items()]
    assert max(changes) > 1e-3  # a hundred times the gap allowed


@pytest.mark.parametrize("config", ["zero2-cpu.yaml", "zero3-cpu.yaml"])
def test_a_gradient_broken_on_one_rank_stops_both_under_deepspeed(tmp_path, config):
    """DeepSpeed steps before the trainer sees the norm; it must have skipped that step."""
    script = Path(__file__).with_name("zero_broken_gradient.py")
    settings = str(ROOT / "launch/accelerate" / config)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", settings]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*launch, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert found["message"].startswith("the gradient is not finite at step 2;"), found
        assert found["step"] == 2 and found["is_finite"]
        assert found["checkpoints"] == ["checkpoint-1", "checkpoint-2"]

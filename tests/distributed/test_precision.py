"""Every way of sharding, in both precisions, gives what one process gives in every training stage: docs/precision.md.

The tables of that page are made here: `EPO_WRITE_DOCS=1 pytest tests/distributed/test_precision.py` writes them anew.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from launch.precision_check import require_precision
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "precision.md"
SHARDINGS = ("one process", "DDP", "ZeRO-1", "ZeRO-2", "ZeRO-3", "FSDP2")
OFFLOADED = "ZeRO-3, offloaded"
CELLS = {OFFLOADED: (("sft", "float32"), ("epo", "float32"))}
"""Where not all stages are run in both precisions."""
STAGES = ("extractor", "text", "compressor", "sft", "epo", "epo_all")

# Largest relative gap to one process that counts as equal, and of a model read again to the one that trained.
TOLERANCES = {
    "float32": {"loss of a step": 1e-4, "gradient norm of a step": 1e-3, "held-out loss": 1e-4, "saved and read": 1e-5},
    "bfloat16": {"loss of a step": 1e-2, "gradient norm of a step": 0.1, "held-out loss": 1e-2, "saved and read": 2e-3},
}

REFUSED = [
    ({"fp16": True}, {}),
    ({"dtype": "bfloat16"}, {}),
    ({"input": "text", "dtype": "bfloat16", "bf16": True}, {}),
    ({"tune": "all", "quantize": "8bit"}, {}),
    ({"bf16_full_eval": True}, {}),
    ({"fsdp": "full_shard"}, {}),
    ({}, {"ACCELERATE_USE_FSDP": "true"}),
    ({}, {"ACCELERATE_USE_MEGATRON_LM": "true"}),
    ({}, {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}),
    ({"deepspeed": "zero.json"}, {}),
    ({"parallelism_config": "{...}"}, {}),
    ({}, {"ACCELERATE_MIXED_PRECISION": "bf16"}),
    ({"bf16": True}, {"ACCELERATE_MIXED_PRECISION": "fp16"}),
]
"""Recipe keys, and what the launcher's configuration tells its ranks."""


_PLAIN = {
    "fp16": False, "bf16": False, "bf16_full_eval": False, "fp16_full_eval": False, "fsdp": [], "deepspeed": None,
    "parallelism_config": None,
}  # fmt: skip


def refusal(keys, environment, monkeypatch):
    """What a recipe is answered."""
    for name in {name for _, environment in REFUSED for name in environment}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recipe = SimpleNamespace(**(_PLAIN | keys))
    with pytest.raises(RecipeError) as caught:
        require_precision(recipe, recipe)
    message = str(caught.value)
    assert "\n" not in message and ("set" in message or "leave" in message or "start" in message)
    return message


@pytest.mark.parametrize(("keys", "environment"), REFUSED)
def test_what_would_be_wrong_is_refused(keys, environment, monkeypatch):
    named = [*keys, *(name.removeprefix("ACCELERATE_").removeprefix("USE_").lower() for name in environment)]
    assert refusal(keys, environment, monkeypatch).split(":")[0].split(" ")[0] in named


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_tried_below_is_not_refused(dtype, monkeypatch):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refusal({"dtype": dtype, "bf16": True}, {"ACCELERATE_MIXED_PRECISION": "no"}, monkeypatch)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("recipes/*/epo.yaml")))
def test_recipes_that_come_along_agree_on_precision(name):
    """None is refused, and EPO computes as SFT did; TRL switches bf16 on where a recipe does not say."""
    found = {}
    for path in (ROOT / "recipes" / name).glob("*.yaml"):
        kind = path.stem.split("_")[0]
        if kind in ("extractor", "speech", "face", "lm", "compressor", "sft", "epo"):
            found[path.stem] = SimpleNamespace(**(_PLAIN | yaml.safe_load(path.read_text())))
            require_precision(found[path.stem], found[path.stem])
    tuned = [recipe for stem, recipe in found.items() if stem.startswith("sft")]
    assert {"compressor", "epo"} <= found.keys() and tuned
    assert "bf16" in (ROOT / "recipes" / name / "epo.yaml").read_text()
    assert {recipe.bf16 for recipe in tuned} == {found["epo"].bf16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture
def inputs(folder, corpus, make_llm, make_extractor, make_compressor):
    """Folders of the corpus and of the parts' configurations."""
    parts = folder / "parts"
    if not parts.is_dir():
        parts.mkdir()
        shutil.copy(corpus / "pairs.jsonl", parts / "pairs.jsonl")
        clips = make_extractor().config
        configs = {"llm": make_llm().config, "whisper": clips.audio_config, "siglip": clips.vision_config}
        for name, config in (configs | {"mamba2": make_compressor().config.backbone_config}).items():
            config.to_json_file(parts / f"{name}.json")
    return corpus, parts


@pytest.fixture
def run(folder, inputs):
    """Run all stages in both precisions under a sharding, once; returns what each wrote down."""

    def run(sharding):
        out = folder / sharding
        if not out.is_dir():
            if sharding != SHARDINGS[0]:
                run(SHARDINGS[0])  # whose parts all go on from
            script = [str(Path(__file__).with_name("matrix_rank.py")), *map(str, inputs)]
            paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
            done = subprocess.run(
                [
                    sys.executable, *_launcher(sharding, folder), *script, str(folder / SHARDINGS[0]), str(out),
                    *map(":".join, CELLS.get(sharding, ())),
                ],
                capture_output=True, text=True, timeout=600, env=environment,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-6000:]
        cells = CELLS.get(sharding, [(stage, precision) for stage in STAGES for precision in TOLERANCES])
        return {
            (stage, precision): json.loads((out / precision / f"{stage}.json").read_text())
            for stage, precision in cells
        }

    return run


def _launcher(sharding, folder):
    """The launcher's part of a command; ZeRO-3 shards weights however small they are."""
    if sharding == "one process":
        return []
    if sharding == "FSDP2":
        return _launched(ROOT / "launch/accelerate/fsdp2-cpu.yaml")
    config = yaml.safe_load((ROOT / "launch/accelerate/cpu.yaml").read_text())
    if sharding != "DDP":
        zero = {"stage": int(sharding.removeprefix("ZeRO-")[0])}
        if sharding == OFFLOADED:
            zero |= {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
        if zero["stage"] == 3:
            zero |= {"stage3_param_persistence_threshold": 0, "stage3_gather_16bit_weights_on_model_save": True}
        auto = dict.fromkeys(
            ("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping"),
            "auto",
        )
        settings = folder / f"{sharding}.json"
        settings.write_text(json.dumps({"zero_optimization": zero, "bf16": {"enabled": "auto"}} | auto))
        config = yaml.safe_load((ROOT / "launch/accelerate/zero3-cpu.yaml").read_text())
        del config["mixed_precision"]  # accelerate refuses it beside a file of DeepSpeed's
        config["deepspeed_config"] = {"deepspeed_config_file": str(settings), "zero3_init_flag": False}
    path = folder / f"{sharding}.yaml"
    path.write_text(yaml.safe_dump(config))
    return _launched(path)


def _launched(settings):
    return ["-m", "accelerate.commands.launch", "--config_file", str(settings), "--main_process_port", "0"]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [*SHARDINGS, OFFLOADED])
def test_a_sharding_equals_one_process(run, sharding):
    wanted, found = run(SHARDINGS[0]), run(sharding)
    faults = [
        f"{stage} in {precision}: {fault}"
        for (stage, precision), cell in found.items()
        for fault in _faults(cell, wanted[stage, precision], TOLERANCES[precision])
    ]
    assert not faults, "\n".join(faults)


def _faults(cell, wanted, tolerance):
    """Yield in what a cell differs from the same stage in one process, or from itself."""
    steps = list(zip(cell["steps"], wanted["steps"], strict=True))
    pairs = {
        "loss of a step": [(ours[0], theirs[0]) for ours, theirs in steps],
        "gradient norm of a step": [(ours[1], theirs[1]) for ours, theirs in steps],
        "held-out loss": [(cell["reloaded_loss"], wanted["reloaded_loss"])],
        "saved and read": [(cell["reloaded_loss"], cell["trained_loss"])],
    }
    for name, values in pairs.items():
        for ours, theirs in values:
            if abs(ours - theirs) > tolerance[name] * abs(theirs):
                yield f"{name} {ours:.6g}, want {theirs:.6g} within {tolerance[name]:g}"
    if len(steps) < 3:
        yield f"only {len(steps)} steps"
    if not cell["trained"] == cell["moved"] == wanted["moved"]:
        still = sorted(set(cell["trained"]) - set(cell["moved"]))
        strange = sorted(set(cell["moved"]) - set(wanted["moved"]))
        yield f"{len(still)} weights did not move {still[:3]}, {len(strange)} should not have {strange[:3]}"
    if cell["buffers"] not in ([], ["torch.float32"]):
        yield f"buffers are {cell['buffers']}"


@pytest.mark.slow
def test_bfloat16_follows_float32(run):
    """Both learn alike: rounding does not decide what comes out."""
    found = run(SHARDINGS[0])
    for stage in STAGES:
        for ours, theirs in zip(found[stage, "bfloat16"]["steps"], found[stage, "float32"]["steps"], strict=True):
            assert ours[0] == pytest.approx(theirs[0], rel=0.03), stage


@pytest.mark.slow
def test_the_page_says_what_was_found(run, monkeypatch):
    """Last of all: each cell is what the tests above found equal, and each refusal what a recipe is answered."""
    wanted = {sharding: run(sharding) for sharding in SHARDINGS}
    tables = {"matrix": _matrix(wanted), "tolerances": _tolerances(), "refused": _refused(monkeypatch)}
    page = PAGE.read_text(encoding="utf-8")
    current = page
    for name, table in tables.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        assert block.search(page), name
        current = block.sub(lambda match, table=table: match[1] + table + match[2], current)
    if os.environ.get("EPO_WRITE_DOCS") == "1":
        PAGE.write_text(current, encoding="utf-8")
    else:
        assert page == current, "docs/precision.md is out of date: run this file with EPO_WRITE_DOCS=1"


def _matrix(found):
    reference = found[SHARDINGS[0]]
    rows = [
        [stage, precision, *(_cell(found[sharding], reference, stage, precision) for sharding in SHARDINGS)]
        for stage in STAGES
        for precision in TOLERANCES
    ]
    return _table(["stage", "", *SHARDINGS], rows)


def _cell(found, reference, stage, precision):
    cell = found[stage, precision]
    faults = list(_faults(cell, reference[stage, precision], TOLERANCES[precision]))
    return f"{'differs' if faults else 'equal'}, {len(cell['moved'])} of {len(cell['trained'])}"


def _tolerances():
    rows = [[name, *(f"{TOLERANCES[precision][name]:g}" for precision in TOLERANCES)] for name in TOLERANCES["float32"]]
    return _table(["largest relative gap", *TOLERANCES], rows)


def _refused(monkeypatch):
    rows = []
    for keys, environment in REFUSED:
        asked = [f"`{key}: {str(value).lower() if value is True else value}`" for key, value in keys.items()]
        asked += [f"`{name}={value}`" for name, value in environment.items()]
        rows.append([", ".join(asked), refusal(keys, environment, monkeypatch)])
    return _table(["asked for", "answer"], rows)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

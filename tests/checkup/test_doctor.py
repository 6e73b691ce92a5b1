"""The doctor's screen and `--dry_run`: what they show, what they refuse, and that they leave nothing behind."""

import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.utils import DeepSpeedPlugin

from launch import doctor, stage
from launch.checkup import hub
from launch.checkup.checkup import _uncounted
from launch.checkup.planned_stages import Start, read_start
from launch.keys.recipe_file import RecipeError

ROOT = Path(__file__).parents[2]
LAYERS = {"num_hidden_layers": 1, "encoder_layers": 1}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.chdir(ROOT)
    hub.answers.cache_clear()


@pytest.fixture
def parts(tmp_path):
    """The quickstart's configurations with one layer each, which are stepped through in less time."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for path in (ROOT / "recipes" / "quickstart" / "parts").glob("*.json"):
        config = json.loads(path.read_text())
        (folder / path.name).write_text(json.dumps(config | {k: v for k, v in LAYERS.items() if k in config}))
    return folder


@pytest.fixture
def recipe(corpus, tmp_path, parts):
    """Write the recipe of a small text stage, with changes, and return its path."""

    def write(name="sft", **changes):
        said = {
            "data": str(corpus / "dialogues.jsonl"), "input": "text", "llm": str(parts / "llm.json"),
            "output_dir": str(tmp_path / "out"), "max_steps": 3, "global_batch_size": 2,
            "per_device_train_batch_size": 2, "bf16": False,
        } | changes  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in said.items() if value is not None))
        return str(path)

    return write


def screen(capsys, *argv):
    """What the doctor prints, and its exit code."""
    code = 0
    try:
        doctor.run(["--config", *argv])
    except SystemExit as end:
        code = end.code
    return capsys.readouterr().out, code


def test_one_screen_tells_a_stage_that_can_run(recipe, capsys, tmp_path):
    out, code = screen(capsys, recipe())
    lines = out.splitlines()
    assert code == 0 and lines[-1] == "can run"
    assert len(lines) <= 45 and max(map(len, lines)) <= 100
    assert {line[:12].strip() for line in lines if line[:1].isalpha()} >= {
        "parts", "parameters", "memory", "work", "kernels", "around"
    }  # fmt: skip
    # 800 x 128 embeddings, tied; 4 x 128 x 128 of attention, 3 x 128 x 384 after it, norms of 2 x 128 + 2 x 32 + 128.
    assert f"language model {102_400 + 65_536 + 147_456 + 448:>15,} {0:>15}" in out
    assert "llm.json: configuration: starts from nothing, qwen3" in " ".join(out.split())
    assert "training 8" in out and "3 steps of 2: 6 examples" in out
    assert not (tmp_path / "out").exists()


def test_flags_win_over_the_recipe(recipe, capsys):
    out, _ = screen(capsys, recipe(), "--max_steps", "7")
    assert "7 steps of 2" in out


def test_a_hub_name_offline_is_missing_at_once(recipe, capsys):
    start_s = time.monotonic()
    out, code = screen(capsys, recipe(llm="nobody/nothing-8b"))
    assert code == 2 and time.monotonic() - start_s < 10
    assert "error: llm: nobody/nothing-8b is neither a folder nor in the hub's cache" in out
    assert "hf download nobody/nothing-8b" in " ".join(out.split())


def test_a_part_of_a_folder_of_parts_is_found(recipe, parts, capsys, tmp_path):
    folder = tmp_path / "parts" / "owner" / "small"
    folder.mkdir(parents=True)
    shutil.copy(parts / "llm.json", folder / "config.json")
    shutil.copytree(folder, tmp_path / "parts" / "small-v2")
    out, code = screen(capsys, recipe(llm="owner/small"), "--parts_root", str(tmp_path / "parts"))
    assert code == 0 and str(folder) in "".join(out.split()).replace("\n", "")
    out, code = screen(capsys, recipe(llm="owner/all-Small-v2", parts_root=str(tmp_path / "parts")))
    assert code == 0 and str(tmp_path / "parts" / "small-v2") in "".join(out.split())


def test_an_unknown_key_is_a_problem_that_names_it(recipe, capsys):
    out, code = screen(capsys, recipe(learning_rat=1.0))
    assert code == 2 and "learning_rat" in out and "learning_rate" in out


def test_a_batch_that_does_not_divide_over_the_ranks(recipe, capsys):
    out, code = screen(capsys, recipe(), "--num_processes", "2")
    assert code == 2 and "global_batch_size 2 is not a multiple" in out


def test_more_memory_than_there_is(recipe, capsys, monkeypatch):
    monkeypatch.setattr("launch.checkup.surroundings.machine_memory", lambda: 5 * 2**20)
    out, code = screen(capsys, recipe())
    assert code == 2 and "error: memory: about" in out and "5 MiB there" in out and "gradient_checkpointing" in out


def test_a_full_disk(recipe, capsys, monkeypatch):
    monkeypatch.setattr("launch.checkup.checkup.free_bytes", lambda folder: 1000)
    out, code = screen(capsys, recipe())
    assert code == 2 and "error: disk: 1e+03 B are free" in out and "save_total_limit" in out


def test_a_silent_tracking_server_stops_nobody(recipe, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    out, code = screen(capsys, recipe())
    assert code == 0 and "does not answer" in out and "secret" not in out


def test_clips_that_are_gone(corpus, capsys, tmp_path, recipe, parts):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    (folder / "0.wav").unlink()
    (folder / "0.mp4").unlink()
    encoders = {"audio_encoder": str(parts / "whisper.json"), "vision_tower": str(parts / "siglip.json")}
    changes = {"data": str(folder / "dialogues.jsonl"), "input": None, "llm": None} | encoders
    out, code = screen(capsys, recipe("extractor", **changes))
    assert code == 2
    assert "clips: 2 media files" in out and "such as 0.mp4" in " ".join(out.split())


def test_a_clip_that_cannot_be_decoded(corpus, capsys, tmp_path, recipe, parts):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    (folder / "0.mp4").write_bytes(b"no film")
    encoders = {"audio_encoder": str(parts / "whisper.json"), "vision_tower": str(parts / "siglip.json")}
    changes = {"data": str(folder / "dialogues.jsonl"), "input": None, "llm": None} | encoders
    out, code = screen(capsys, recipe("extractor", **changes))
    assert code == 2 and "0.mp4" in out and "data.py check" in out


def test_what_an_extractor_is_taught_through_is_named_where_it_is_not_counted():
    taught, plain = (SimpleNamespace(descriptions=d, asr_weight=w) for d, w in (("d.jsonl", 0.5), (None, 0.0)))
    both = "\n".join(_uncounted("extractor.py", taught))
    assert "language model that descriptions are learnt through is not counted" in both and "decoder" in both
    assert _uncounted("extractor.py", plain) == _uncounted("sft.py", taught) == []


@pytest.mark.parametrize("script", ["sft", "pipeline"])
def test_dry_run_is_the_same_screen_and_nothing_else(script, recipe, capsys, monkeypatch, tmp_path):
    config = recipe()
    expected, _ = screen(capsys, config)
    if script == "pipeline":
        beside = tmp_path / "pipe.yaml"
        beside.write_text(
            f"name: x\noutput_dir: {tmp_path}/run\nstages:\n- {{name: sft, script: launch/sft.py, config: {config}}}\n"
        )
        config = str(beside)
    monkeypatch.setattr(sys, "argv", [f"launch/{script}.py", "--config", config, "--dry_run"])
    monkeypatch.setattr(stage, "guard_streams", lambda: None)
    stage.main(lambda: pytest.fail("the stage itself was run"))
    out = capsys.readouterr().out
    if script == "sft":
        assert out.replace("disk", "") != "" and out.splitlines()[0] == expected.splitlines()[0]
    else:
        assert "all 1 stages can run" in out
    assert not (tmp_path / "out").exists() and not (tmp_path / "run").exists()


def test_dry_run_of_an_import_by_flags_alone(corpus, capsys, tmp_path):
    out = tmp_path / "imported"
    doctor.dry_run("data", ["import", "--corpus", "jsonl", "--root", str(corpus), "--out", str(out), "--dry_run"])
    assert "can run" in capsys.readouterr().out and not out.exists()
    with pytest.raises(SystemExit) as end:
        doctor.dry_run("data", ["import", "--corpus", "meld", "--root", "nowhere", f"--out={out}"])
    assert end.value.code == 2 and "nowhere: no such folder" in capsys.readouterr().out


def test_a_file_of_accelerate_says_how_a_stage_starts():
    assert read_start("launch/accelerate/zero2-cpu.yaml", None) == Start(
        2, 2, 2, True, "launch/accelerate/zero2-cpu.yaml"
    )
    assert read_start("launch/accelerate/zero3.yaml", 4) == Start(4, 4, 3, False, "launch/accelerate/zero3.yaml")
    assert read_start("launch/accelerate/cpu.yaml", None).zero_stage is None
    fsdp = read_start("launch/accelerate/fsdp2.yaml", 4)
    assert fsdp.is_fsdp and fsdp.zero_stage is None and fsdp.num_ranks == 4
    with pytest.raises(RecipeError, match="no such recipe"):
        read_start("nowhere.yaml", None)


def test_no_recipe_is_said_in_one_line():
    with pytest.raises(RecipeError, match="name a recipe"):
        doctor.run(["--num_processes", "2"])


def test_counts_are_those_of_the_stages(make_model):
    """What tuning and preferences train, counted without weights and on the models themselves."""
    from epo.training.lora import num_trainable, prepare_for_tuning
    from launch.checkup.stage_models import Parts, Precision, build_stage, count_parameters

    model = make_model()[0]
    config = model.config
    parts = Parts(config.text_config, config.extractor_config, config.compressor_config)
    recipe = SimpleNamespace(
        input="audio_visual", lora_rank=4, lora_alpha=8, lora_dropout=0.0, trainable=["lora_", "compressor"],
        emotion_weight=0.5,
    )  # fmt: skip
    counts = count_parameters(build_stage("sft.py", recipe, parts, Precision())).values()
    prepare_for_tuning(model, 4, 8, 0.0, recipe.trainable)
    trained, every = num_trainable(model)
    assert (sum(t for t, _ in counts), sum(t + f for t, f in counts)) == (trained, every)
    pairs = count_parameters(build_stage("epo.py", recipe, parts, Precision()))
    assert {name for name, (trains, _) in pairs.items() if trains} == {"LoRA"}
    recipe = SimpleNamespace(tune="all", conditional_weight=0.0, tokens_per_row=None)
    counts = count_parameters(build_stage("epo.py", recipe, parts, Precision()))
    language_model = sum(p.numel() for p in make_model()[0].language_model.parameters())
    assert counts["language model"] == (language_model, 0) and counts.keys() == pairs.keys() - {"LoRA"}
    assert sum(trains for trains, _ in counts.values()) == language_model


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("recipes/*/pipeline.yaml")))
def test_every_recipe_can_be_looked_at_before_anything_is_trained(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no other run lies that a recipe could go on from
    out, code = screen(capsys, f"{ROOT}/recipes/{name}/pipeline.yaml", "--run", str(tmp_path / "run"))
    assert code == (0 if name in ("quickstart", "smoke", "av_emodialog") else 2), out
    assert "cannot be told" not in out and "cannot be built" not in out
    assert all(len(line) <= 100 or len(line.split()) == 1 for line in out.splitlines())  # a long path stays whole
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_in_few_bits_takes_less_and_is_counted_whole(make_model):
    """Without its kernels, and with a LoRA of any variant: 14 layers of a byte a weight and four a row."""
    from epo.model.memory_estimate import Sharding
    from epo.training.planned_steps import StepSizes
    from launch.checkup.memory import estimate_training, weigh
    from launch.checkup.stage_models import Parts, Precision, build_stage, count_parameters

    config = make_model()[0].config
    parts = Parts(config.text_config, config.extractor_config, config.compressor_config)

    def recipe(quantize):
        lora = {"lora_rank": 4, "lora_alpha": 8, "lora_variant": "dora"}
        return SimpleNamespace(dtype="float32", quantize=quantize, conditional_weight=0.0, tokens_per_row=None, **lora)

    plain, eight, four = (
        build_stage("epo.py", recipe(quantize), parts, Precision()) for quantize in ("none", "8bit", "4bit")
    )
    assert count_parameters(plain) == count_parameters(eight) == count_parameters(four)
    weights, rows = 2 * (4 * 32 * 32 + 3 * 32 * 64), 2 * (5 * 32 + 2 * 64)
    assert weigh(plain).frozen - weigh(eight).frozen == weights and weigh(plain).trained == weigh(eight).trained
    assert weigh(eight).beside == weights + 4 * rows
    assert weigh(four).beside == weights // 2 + 4 * weights // 64
    sizes = StepSizes(rows=2, tokens=40, reply=8, history=20, memories=4, mel_frames=100, video_frames=2)
    held = [
        estimate_training("epo.py", recipe(quantize), parts, Precision(), Sharding(), sizes, False).held.weights
        for quantize in ("none", "4bit")
    ]
    assert held[0] - held[1] == 4 * weights - weigh(four).beside


def test_a_compressor_whose_back_propagation_is_cut_holds_less(make_model):
    """A history of 1024 tokens read in segments of 256: the inner states of one segment alone are held."""
    from epo.model.memory_estimate import Sharding
    from epo.training.planned_steps import StepSizes
    from launch.checkup.memory import estimate_training
    from launch.checkup.stage_models import Parts, Precision

    config = make_model()[0].config
    parts = Parts(config.text_config, None, config.compressor_config)
    sizes = StepSizes(rows=4, tokens=20, reply=4, history=1024, memories=4)

    def activations(size):
        weights = {"reconstruction_weight": 0.0, "distillation_weight": 0.0}
        recipe = SimpleNamespace(dtype="float32", quantize="none", backprop_tokens=size, **weights)
        return estimate_training("compressor.py", recipe, parts, Precision(), Sharding(), sizes, False).activations

    whole = activations(None)
    assert activations(256) < whole and activations(1024) == whole


def test_few_bits_and_zero3_are_a_problem(monkeypatch):
    from launch.precision_check import require_precision

    args = SimpleNamespace(
        fp16=False, bf16=True, bf16_full_eval=False, fp16_full_eval=False, fsdp="", deepspeed=None,
        parallelism_config=None, deepspeed_plugin=DeepSpeedPlugin(zero_stage=3),
    )  # fmt: skip
    recipe = SimpleNamespace(dtype="bfloat16", quantize="8bit", lora_variant="plain", input="audio_visual")
    with pytest.raises(RecipeError, match="quantize: .* cannot be sharded by ZeRO-3; .* or leave quantize out"):
        require_precision(recipe, args)
    args.conditional_weight, recipe.quantize = 0.5, "none"
    with pytest.raises(RecipeError, match="conditional_weight: its second reading of a pair ends ZeRO-3's backward"):
        require_precision(recipe, args)
    recipe.quantize = "8bit"
    args.deepspeed_plugin = DeepSpeedPlugin(zero_stage=2)
    require_precision(recipe, args)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="quantize: .* cannot be sharded by FSDP; .* or leave quantize out"):
        require_precision(recipe, args)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    recipe.input = "text"
    recipe.dtype = "float32"
    with pytest.raises(RecipeError, match="quantize: with input: text all weights train"):
        require_precision(recipe, args)
    recipe.input, recipe.lora_variant = "audio_visual", "dora"
    with pytest.raises(RecipeError, match="lora_variant: dora scales the rows .* leave bf16 and quantize out"):
        require_precision(recipe, args)

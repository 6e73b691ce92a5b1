"""Recipes: read strictly, every one that comes with the project, and told apart from what they are not."""

import dataclasses
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from transformers import TrainingArguments
from trl import DPOConfig

from epo.data.corpora.builtin import BuiltinCorpus
from epo.training.arguments import EpoArguments
from launch.folder.stage_state import recipe_types
from launch.keys.recipe_values import REPORTERS
from launch.keys.roles import ROLES, role_of
from launch.keys.run_names import RUN_FILE
from launch.pipeline import read_pipeline
from launch.recipe import (
    ChosenBy,
    RecipeError,
    accumulation_steps,
    declared,
    read_mapping,
    read_recipe,
    resolved_keys,
)

ROOT = Path(__file__).parents[2]
# A stage's own dataclass, and what it reads beside it.
_STAGES = {
    "data import": ("ImportRecipe", BuiltinCorpus),
    "data lend-clips": ("LendRecipe", None),
    "data describe-faces": ("DescribeRecipe", None),
    "data label": ("LabelRecipe", None),
    "extractor": ("ExtractorRecipe", TrainingArguments),
    "compressor": ("CompressorRecipe", TrainingArguments),
    "sft": ("SftRecipe", TrainingArguments),
    "preferences": ("PreferencesRecipe", None),
    "epo": ("EpoRecipe", EpoArguments),
    "evaluate": ("EvaluateRecipe", None),
}
RECIPES = sorted(path for path in ROOT.glob("recipes/**/*.yaml") if path.name != RUN_FILE)


@dataclass
class Toy:
    """A small recipe."""

    output_dir: str
    beta: float = 0.1
    kind: Literal["a", "b"] = "a"
    is_loud: bool = False
    names: list[str] | None = None


@dataclass
class Small:
    """A recipe beside which TrainingArguments stand."""

    beta: float = 0.1
    kind: Literal["a", "b"] = "a"


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "toy.yaml"
        path.write_text(text)
        return ["--config", str(path)]

    return write


def test_values_are_converted_by_the_declared_type(recipe):
    """PyYAML reads `5e-7` as text and `no` as false."""
    (toy,) = read_recipe([Toy], recipe("output_dir: out\nbeta: 5e-7\nis_loud: yes\nnames: [x, y]\n"))
    assert toy == Toy("out", beta=5e-7, is_loud=True, names=["x", "y"])


def test_flags_win_over_the_file(recipe):
    argv = recipe("output_dir: out\nbeta: 0.5\n")
    (toy,) = read_recipe([Toy], [*argv, "--beta", "0.2", "--kind=b"])
    assert (toy.beta, toy.kind, toy.output_dir) == (0.2, "b", "out")


def test_a_recipe_is_named_in_one_word_or_in_two(recipe):
    config, path = recipe("output_dir: out\nbeta: 0.5\n")
    assert read_recipe([Toy], [f"{config}={path}"]) == read_recipe([Toy], [config, path])
    assert declared([Toy], [f"{config}={path}", "--kind", "b"])[0]["kind"] == "b"


def test_an_unknown_key_names_the_nearest(recipe):
    with pytest.raises(RecipeError, match=r"toy.yaml: unknown key 'bta'; the nearest known key is 'beta'"):
        read_recipe([Toy], recipe("output_dir: out\nbta: 0.5\n"))


def test_an_unknown_flag_names_the_nearest(recipe):
    with pytest.raises(RecipeError, match="command line: unknown key 'bta'; the nearest known key is 'beta'"):
        read_recipe([Toy], [*recipe("output_dir: out\n"), "--bta", "0.5"])


def test_a_key_of_the_training_arguments_is_known_too(recipe, tmp_path):
    @dataclass
    class Own:
        """Keys beside those of the trainer."""

        global_batch_size: int = 8

    argv = recipe(f"output_dir: {tmp_path}\nlearning_rate: 2e-4\nglobal_batch_size: 4\n")
    own, args = read_recipe([Own, TrainingArguments], [*argv, "--use_cpu"])
    assert (own.global_batch_size, args.learning_rate) == (4, 2e-4)
    # What every stage needs and transformers does otherwise.
    assert (args.report_to, args.remove_unused_columns, args.seed) == ([], False, 0)
    with pytest.raises(RecipeError, match="'lerning_rate'; the nearest known key is 'learning_rate'"):
        read_recipe([Own, TrainingArguments], [*argv, "--lerning_rate", "1"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("neptune", "report_to: neptune needs neptune: pip install neptune; or leave it out"),
        ("wandbb", "report_to is 'wandbb', want one of azure_ml"),
    ],
)
def test_a_reporter_that_is_not_there_is_refused_before_anything_is_loaded(recipe, tmp_path, name, message):
    argv = recipe(f"output_dir: {tmp_path}\nreport_to: {name}\n")
    with pytest.raises(RecipeError, match=message):
        read_recipe([TrainingArguments], [*argv, "--use_cpu"])


def test_every_reporter_of_transformers_is_known():
    known = importlib.import_module("transformers.integrations.integration_utils").INTEGRATION_TO_CALLBACK
    assert REPORTERS.keys() >= known.keys()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("beta: high", "argument --beta: invalid float value: 'high'"),
        ("beta: [1]", r"beta is \[1\], want float"),
        ("beta: true", "beta is True, want float"),
        ("kind: c", "kind is 'c', want 'a' or 'b'"),
        ("is_loud: 2", "is_loud is 2, want bool"),
        ("names: x", "names is 'x', want a list of str or nothing"),
        ("names: [x, 1]", r"names is \['x', 1\], want"),
        ("output_dir: 3", "output_dir is 3, want str"),
    ],
)
def test_a_value_of_another_type_is_refused(recipe, line, message):
    text = line if line.startswith("output_dir") else f"output_dir: out\n{line}"
    with pytest.raises(RecipeError, match=f"toy.yaml: {message}"):
        read_recipe([Toy], recipe(text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rate: -1", "learning_rate is -1, want 0 or more"),
        ("learning_rate: .nan", "learning_rate is nan, want a number"),
        ("weight_decay: -0.1", "weight_decay is -0.1, want 0 or more"),
        ("adam_beta1: 2", "adam_beta1 is 2, want 0 or more and less than 1"),
        ("max_grad_norm: -1", "max_grad_norm is -1, want 0 or more"),
        ("per_device_train_batch_size: 0", "per_device_train_batch_size is 0, want 1 or more"),
        ("dataloader_num_workers: -1", "dataloader_num_workers is -1, want 0 or more"),
        ("save_steps: 0", "save_steps is 0, want the steps between two checkpoints"),
        ("save_total_limit: 0", "save_total_limit is 0, want 1 or more"),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_loaded(recipe, line, message):
    with pytest.raises(RecipeError, match=f"toy.yaml: {message}"):
        read_recipe([TrainingArguments], recipe(f"output_dir: out\nuse_cpu: true\n{line}\n"))


def test_an_empty_folder_name_is_refused(recipe):
    with pytest.raises(RecipeError, match="toy.yaml: output_dir is empty, want the path of a folder"):
        read_recipe([Toy], recipe("output_dir: ''\n"))


def test_a_flag_of_another_type_is_refused_in_one_line(recipe):
    with pytest.raises(RecipeError, match="argument --kind: invalid choice: 'c'") as caught:
        read_recipe([Toy], [*recipe("output_dir: out\n"), "--kind", "c"])
    assert "\n" not in str(caught.value)


def test_a_required_key_left_out_is_named(recipe):
    with pytest.raises(RecipeError, match="the following arguments are required: --output_dir"):
        read_recipe([Toy], recipe("beta: 1\n"))


def test_nothing_and_whole_numbers_are_fine_where_declared(recipe):
    (toy,) = read_recipe([Toy], recipe("output_dir: out\nbeta: 1\nnames: null\n"))
    assert toy == Toy("out", beta=1, names=None)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_cannot_start_from_is_refused(tmp_path, seed):
    argv = ["--output_dir", str(tmp_path), "--use_cpu", "--seed"]
    (args,) = read_recipe([TrainingArguments], [*argv, str(2**32 - 1)])
    assert args.seed == 2**32 - 1
    with pytest.raises(RecipeError, match=f"command line: seed is {seed}, want a whole number from 0 to 4294967295"):
        read_recipe([TrainingArguments], [*argv, str(seed)])


def test_a_missing_file_says_where_recipes_lie(tmp_path):
    with pytest.raises(
        RecipeError, match="gone.yaml: no such recipe; those that come with the project lie under recipes"
    ):
        read_recipe([Toy], ["--config", str(tmp_path / "gone.yaml")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "not YAML"),
        ("- a\n", "want one `key: value` a line"),
        ("a: 1\nb: 2\na: 3\n", r"not YAML \(key 'a' comes twice, in lines 1 and 3; keep one\)"),
        ("s: [{a: 1, a: 1}]\n", "key 'a' comes twice"),
        ("a: 1\nb: 010\n", "line 2: 010 is no decimal number; write it as one, or in quotes as text"),
        ("a: 1:30\n", "1:30 is no decimal number"),
        ("a: [1:30.5]\n", "1:30.5 is no decimal number"),
        ("a: 2026-99-99\n", "not YAML"),
        (f"a: {'9' * 5000}\n", "not YAML"),
        (f"a: {'[' * 3000}\n", "not YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(recipe, text, message):
    argv = recipe(text)
    with pytest.raises(RecipeError, match=message):
        read_mapping(Path(argv[1]))
    with pytest.raises(RecipeError, match=message):
        read_recipe([Toy], argv)


def test_a_forgotten_path_is_refused():
    with pytest.raises(RecipeError, match="--config: want the path of a recipe after it"):
        read_recipe([Toy], ["--config"])


@pytest.mark.parametrize(
    ("batch", "micro", "ranks", "steps"), [(16, 8, 2, 1), (16, 4, 2, 2), (8, 8, 1, 1), (64, 1, 8, 8)]
)
def test_accumulation_makes_the_global_batch_exact(batch, micro, ranks, steps):
    assert accumulation_steps(batch, micro, ranks) == steps
    assert micro * steps * ranks == batch


@pytest.mark.parametrize(
    ("batch", "micro", "ranks", "options"), [(12, 4, 2, "set it to 8 or 16"), (4, 4, 2, "set it to 8$")]
)
def test_a_batch_that_does_not_divide_names_the_nearest_that_do(batch, micro, ranks, options):
    with pytest.raises(RecipeError, match=f"global_batch_size {batch} is not a multiple.*{options}"):
        accumulation_steps(batch, micro, ranks)


def test_a_token_for_the_hub_is_not_written_down(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), hub_token="hf_secret_value", use_cpu=True)
    assert "hf_secret_value" not in str(resolved_keys([args]))


def test_what_is_declared_is_what_was_said_and_our_own_defaults(recipe):
    argv = [*recipe("beta: 0.25\nlearning_rate: 5e-7\nmax_grad_norm: 1.0\n"), "--output_dir", "o", "--seed", "3"]
    values, defaults = declared([Small, TrainingArguments], argv)
    assert (values["beta"], values["kind"], values["learning_rate"], values["seed"]) == (0.25, "a", 5e-7, 3)
    # transformers' own defaults stay out, whether they were said or not: a new release adds some
    assert "max_grad_norm" not in values and "adam_beta1" not in values
    assert (defaults["beta"], defaults["kind"]) == (0.1, "a")


def test_every_key_of_the_table_of_roles_is_a_key():
    """Of a recipe class, or of transformers or TRL in one of their versions."""
    recipes = [type_ for name in _STAGES for type_ in types_of(name)]
    classes = [type_ for type_ in recipes if not isinstance(type_, ChosenBy)]
    choices = [type_ for type_ in recipes if isinstance(type_, ChosenBy)]
    chosen = [type_ for choice in choices for value in choice.values() if (type_ := choice.settings(value)) is not None]
    ours = {field.name for type_ in (*classes, *chosen, EpoArguments) for field in dataclasses.fields(type_)}
    theirs = {field.name for field in dataclasses.fields(DPOConfig)}
    elsewhere = {"num_ranks", "activation_checkpointing", "gradient_checkpointing", "logging_dir"}  # some versions'
    assert ROLES.keys() - ours - theirs - elsewhere <= {
        "activation_offloading", "parallelism_config", "ddp_timeout", "tpu_num_cores", "trackio_space_id", "project",
        "enable_jit_checkpoint", "hub_revision", "use_cpu",
    }  # fmt: skip
    assert {role_of(key) for key in ("beta", "max_steps", "bf16", "replies", "lora_rank", "optim")} == {"matters"}
    assert (role_of("data"), role_of("llm"), role_of("root")) == ("file", "part", "corpus")
    assert {role_of(key) for key in ("save_steps", "logging_steps", "output_dir", "cache_dir")} == {"cosmetic"}


@pytest.mark.parametrize("seed", ["5000000000", "-1"])
def test_a_seed_that_numpy_would_refuse_is_refused_first(recipe, seed):
    with pytest.raises(RecipeError, match=f"seed is {seed}, want a whole number from 0 to 4294967295"):
        read_recipe([Small, TrainingArguments], [*recipe("beta: 0.2\n"), "--output_dir", "o", f"--seed={seed}"])


def test_a_recipe_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("# für\nbeta: 0.2\n".encode("latin-1"))
    with pytest.raises(RecipeError, match="latin.yaml: not UTF-8 .* save it as UTF-8"):
        read_mapping(path)


def command_of(path):
    """The stage, with its verb, and the file that a recipe's header names."""
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    found = re.search(r"launch/(\w+)\.py( [\w-]+)? --config (\S+)", header)
    assert found is not None, f"{path}: the header must show the exact command"
    return found.group(1) + (found.group(2) or ""), found.group(3)


def types_of(name):
    """The dataclasses of a stage, named by its script and verb."""
    script, _, verb = name.partition(" ")
    return recipe_types(str(ROOT / f"launch/{script}.py"), verb or None)


def test_there_are_recipes():
    assert len(RECIPES) >= 10
    assert {*_STAGES, "pipeline"} - {"data lend-clips", "data label", "data describe-faces"} <= {
        command_of(path)[0] for path in RECIPES
    }


@pytest.mark.parametrize("path", RECIPES, ids=[str(path.relative_to(ROOT / "recipes")) for path in RECIPES])
def test_every_recipe_is_read_strictly(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    stage, named = command_of(path)
    assert named == path.relative_to(ROOT).as_posix(), f"{path}: its header shows the command of another recipe"
    if stage == "pipeline":
        assert read_pipeline(path).stages
        return
    name, beside = _STAGES[stage]
    types = types_of(stage)
    assert types[0].__name__ == name
    extra = ["--use_cpu", "--bf16", "false"] if beside in (TrainingArguments, EpoArguments) else []
    own, *others = read_recipe(types, ["--config", str(path), *extra])
    assert own.pipeline == path.parent.name
    if extra:
        micro = others[0].per_device_train_batch_size
        assert others[0].max_steps > 0 and own.global_batch_size % micro == 0


@pytest.mark.parametrize("path", RECIPES, ids=[str(path.relative_to(ROOT / "recipes")) for path in RECIPES])
def test_a_pipeline_names_files_that_exist(path):
    recipe = read_mapping(path)
    for entry in [recipe, *recipe.get("stages", [])]:
        for key in ("script", "config", "accelerate_config"):
            assert (ROOT / entry.get(key, "launch")).exists(), f"{path}: {entry[key]}"


def test_the_quickstarts_parts_fit_each_other():
    """Built as the stages build them: widths, vocabularies and pictures agree, and the whole stays small."""
    from epo.model.clip_reader import ClipFeatures, ClipReader
    from epo.model.modeling import EpoForConditionalGeneration
    from epo.model.parts import build_compressor, build_extractor, load_llm, load_tokenizer
    from epo.prompts.marks import add_placeholders

    folder = str(ROOT / "recipes" / "quickstart" / "parts")
    llm = load_llm(f"{folder}/llm.json", "float32")
    words = load_tokenizer(f"{folder}/llm.json", ["some words", "to learn from"])
    sizes = {"hidden_size": 128, "max_frames": 8}
    extractor, mels, pictures = build_extractor(f"{folder}/whisper.json", f"{folder}/siglip.json", sizes)
    compressor = build_compressor(f"{folder}/mamba2.json", 2, llm)
    model = EpoForConditionalGeneration.from_parts(llm, extractor, compressor, words, add_placeholders(words))
    reader = ClipReader(mels, pictures, 4.0, 4.0, 8)
    assert sum(p.numel() for p in model.parameters()) < 5_000_000
    assert compressor.config.output_std == pytest.approx(llm.get_input_embeddings().weight.std().item())
    output = model.extractor(**reader.batch([ClipFeatures()]))
    assert output.fused_logits.shape == (1, 7)


@pytest.mark.parametrize("text", ["{", '{"hidden_size": 8}', '{"model_type": "no such thing"}'])
def test_a_part_that_is_no_config_is_refused(tmp_path, text):
    from epo.model.parts import load_llm
    from epo.part_names import PartError

    path = tmp_path / "part.json"
    path.write_text(text)
    with pytest.raises(PartError, match="part.json: not the config of a part .* see recipes/quickstart/parts"):
        load_llm(str(path), "float32")


def test_a_part_that_is_nowhere_is_refused(tmp_path, monkeypatch):
    from epo.model.parts import load_llm
    from epo.part_names import PartError

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PartError, match="neither a folder nor a reachable hub name holds this part"):
        load_llm(str(tmp_path / "nowhere"), "float32")

"""The house rules, read off the source: imports run one way and in no circle, extras are optional, nothing unsafe."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("compressor", "epo", "launch")
# The floors of the house: a module may import from its own floor and from those below.
FLOORS = {
    "launch": 6,
    "epo.training": 5,
    "epo.evaluation": 5,
    "epo.demo": 5,
    "epo.model": 4,
    "epo.judging": 4,  # below preferences and evaluation, which judge; it loads what it reads with by `epo.model.parts`
    "epo.preferences": 4,
    "epo.preferences.sources": 5,  # one of them lets a trained model write; found by name, imported by nobody below
    "epo.prompts": 3,
    "epo.data": 2,
    "epo.asking": 1,  # whoever asks a model: descriptions of clips, pairs, judges
    "epo.emotions": 1,
    "epo.extras": 1,
    "epo.files": 1,
    "epo.hub_reach": 1,
    "epo.part_names": 1,
    "epo.ranks": 1,
    "epo.registry": 1,
    "epo.redaction": 1,
    "compressor": 0,
}
EXTRAS = (
    "mlflow",
    "deepspeed",
    "mamba_ssm",
    "causal_conv1d",
    "bert_score",
    "sacrebleu",
    "gguf",
    "bitsandbytes",
    "starlette",
    "uvicorn",
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(node, importer):
    """Names of the modules an import statement reaches; `from epo.data import media` reaches `epo.data.media`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, f"{importer}: write imports in full"
    whole = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in TREES else node.module for name in whole]


def imports_of(name, top_level_only=False):
    """What a module imports anywhere in it, or only what runs when it is imported itself."""
    nodes = [TREES[name]]
    found = []
    while nodes:
        node = nodes.pop()
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if top_level_only and is_later:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += imported(node, name)
        nodes += ast.iter_child_nodes(node)
    return found


def floor(name):
    parts = name.split(".")
    return next((FLOORS[part] for part in (".".join(parts[:3]), ".".join(parts[:2]), parts[0]) if part in FLOORS), None)


def test_the_rules_have_something_to_read():
    assert len(TREES) > 50 and {"epo.training.trainer", "compressor.modeling", "launch.epo"} <= TREES.keys()


def test_imports_run_one_way():
    backward = [
        f"{name} imports {target}"
        for name in TREES
        for target in imports_of(name)
        if target.split(".")[0] in PACKAGES and None not in (floor(name), floor(target)) and floor(target) > floor(name)
    ]
    assert backward == []


def test_every_module_of_epo_stands_on_a_floor():
    assert [name for name in TREES if floor(name) is None] == ["epo"]


def test_no_imports_in_a_circle():
    graph = {name: {t for t in imports_of(name, top_level_only=True) if t in TREES and t != name} for name in TREES}
    done, path = set(), []

    def visit(name):
        assert name not in path, f"circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            path.append(name)
            for target in sorted(graph[name]):
                visit(target)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_extras_are_imported_where_they_are_used():
    targets = ((name, target) for name in TREES for target in imports_of(name, top_level_only=True))
    assert [pair for pair in targets if pair[1].split(".")[0] in EXTRAS] == []


def test_every_package_that_is_imported_is_a_requirement_of_its_own():
    """What comes only because another package wants it goes when that package no longer does."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    named = {canonicalize_name(Requirement(line).name) for line in lines}
    homes = packages_distributions()
    roots = (
        {root.split(".")[0] for name in TREES for root in imports_of(name)} - set(PACKAGES) - sys.stdlib_module_names
    )
    missing = {
        root for root in roots if root in homes and named.isdisjoint(canonicalize_name(home) for home in homes[root])
    }
    assert missing == set()


@pytest.mark.slow
def test_every_module_imports_on_a_bare_machine():
    """In a fresh process in which the extras do not exist."""
    code = (
        "import sys, importlib\n"
        f"sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"  # None makes an import fail as if not installed
        f"for name in {sorted(TREES)!r}: importlib.import_module(name)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr


def test_files_are_small_named_by_their_idea_and_say_it():
    for path in FILES:
        assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py"), path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
        docstring = ast.get_docstring(TREES[module_name(path)])
        assert docstring is not None and docstring.splitlines()[0].endswith("."), path


def test_functions_are_at_most_sixty_lines():
    functions = ((name, node) for name in TREES for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef))
    assert [f"{name}.{node.name}" for name, node in functions if num_lines(node) > 60] == []


def num_lines(function):
    """Lines of the statements of a function, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not body else body[-1].end_lineno - body[0].lineno + 1


def test_one_file_talks_to_chat_templates_and_none_to_a_tokenizers_padding():
    """Prompts of all stages are alike, and a tokenizer needs no padding token, because nobody goes around the house."""
    methods = [
        (name, node.attr, ast.unparse(node.value))
        for name in TREES
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute)
    ]
    assert {name for name, attr, _ in methods if attr == "apply_chat_template"} == {"compressor.chat"}
    padding = ("pad_token", "pad_token_id", "padding_side")
    assert [(name, attr) for name, attr, _ in methods if attr in padding] == []
    assert [name for name, attr, value in methods if attr == "pad" and "tokenizer" in value] == []


def test_nothing_unsafe():
    """No pickles, no code from a checkpoint, no shell; but DeepSpeed's files, which are pickles, read as plain data."""
    unsafe = [
        f"{name} imports {target}"
        for name in TREES
        for target in imports_of(name)
        if target.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "shelve")
    ]
    calls = ((name, node) for name in TREES for node in ast.walk(TREES[name]) if isinstance(node, ast.Call))
    assert unsafe + [f"{name}: {ast.unparse(call)}" for name, call in calls if is_unsafe(call)] == [
        "compressor.checkpoints.deepspeed_states: torch.load(path, map_location='cpu', mmap=True, weights_only=True)"
    ]


def is_unsafe(call):
    settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    named = ("torch.load", "torch.save", "os.system", "os.popen", "eval", "exec", "yaml.load", "pickle.load")
    return ast.unparse(call.func) in named or any(
        settings.get(name, "False") != "False" for name in ("shell", "trust_remote_code", "allow_pickle")
    )


@pytest.mark.parametrize(
    "line",
    ["torch.load(f)", "run(c, shell=True)", "a.from_pretrained(n, trust_remote_code=t)", "np.load(f, allow_pickle=1)"],
)
def test_the_rule_sees_what_is_unsafe(line):
    assert is_unsafe(ast.parse(line).body[0].value)


# A model's own modules are named as transformers names them, one set a model.
_OF_A_MODEL = ("configuration.py", "modeling.py", "processing.py", "trainer.py")


def test_a_file_name_stands_for_one_idea():
    """No two modules share a file name, but for a model's own, and what users name and the module that does its work.

    Users name a stage of `launch/`, a verb of its `data_verbs/`, and what a registry finds by the name of its module.
    """
    same = {}
    for path in FILES:
        if path.name != "__init__.py" and path.name not in _OF_A_MODEL:
            same.setdefault(path.name, []).append(is_named_by_users(path))
    twins = {name for name, named in same.items() if named.count(False) > 1}
    assert twins == set()


def is_named_by_users(path):
    is_stage = path.parent.name == "launch" and '"__main__"' in path.read_text()
    return is_stage or path.parent.name in ("data_verbs", "families", "parts", "sources", "suites", "terms")

"""Docstrings, read off the source: what is public has one, and the arguments it lists are the function's, in order."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for name in ("compressor", "epo", "launch") for path in (ROOT / name).rglob("*.py"))


def definitions(node, prefix="", is_public=True):
    """(qualified name, node, is public) of every class and of every function that does not stand inside another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            public = is_public and not child.name.startswith("_")
            yield prefix + child.name, child, public
            if isinstance(child, ast.ClassDef):
                yield from definitions(child, f"{prefix}{child.name}.", public)
        elif not isinstance(child, ast.expr):
            yield from definitions(child, prefix, is_public)


def signature(function):
    """Names of the arguments, in order, without the object or class that a method belongs to."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs, *([a.kwarg] if a.kwarg else [])]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def documented(docstring):
    """Names under `Args:`, in order, or None where there is no such section."""
    section = re.search(r"^Args:\n((?:(?: {4}.*)?\n?)+)", docstring, re.MULTILINE)
    if section is None:
        return None
    heads = re.findall(r"^ {4}((?:\*{0,2}\w+(?:, )?)+)(?: \(.*?\))?:", section[1], re.MULTILINE)
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def wrong_arguments(tree):
    """What is amiss: "name: documented (...), has (...)". A class that lists arguments speaks for its `__init__`."""
    wrong = []
    for name, node, _ in definitions(tree):
        named = documented(ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            node = next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
        if named is not None and named != (have := [] if node is None else signature(node)):
            wrong.append(f"{name}: documented ({', '.join(named)}), has ({', '.join(have)})")
    return wrong


def undocumented(tree):
    """Public names without a docstring; a property's setter is spoken for by its getter."""
    return [
        name
        for name, node, is_public in definitions(tree)
        if is_public
        and ast.get_docstring(node) is None
        and not any(ast.unparse(line).endswith((".setter", "overload")) for line in node.decorator_list)
    ]


@pytest.mark.parametrize("check", [wrong_arguments, undocumented])
def test_docstrings(check):
    assert len(FILES) > 100
    found = {str(path.relative_to(ROOT)): check(ast.parse(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_the_rule_sees_what_is_wrong():
    tree = ast.parse(
        """
class Whole:
    '''A class.

    Args:
        a: one.
        b: two.
    '''
    def __init__(self, a): ...

    def open(self): ...

def split(text, *parts, limit=1, **rest):
    '''Split.

    Args:
        text: one
            more: of it.
        limit: out of order.
        *parts, **rest: others.

    Returns:
        nothing: at all.
    '''

if True:
    def later(): ...

def _private(a):
    def inner(): ...
"""
    )
    assert wrong_arguments(tree) == [
        "Whole: documented (a, b), has (a)",
        "split: documented (text, limit, parts, rest), has (text, parts, limit, rest)",
    ]
    assert undocumented(tree) == ["Whole.open", "later"]

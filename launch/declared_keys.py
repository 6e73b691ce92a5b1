"""The keys of a stage's recipe, read off the stage's source: importing the stages takes ten seconds and 500 MiB."""

import ast
import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
# Of the keys that transformers and TRL declare, those that the check before a pipeline reads; others it only knows.
_READ_OF_LIBRARIES = ("output_dir", "max_steps", "per_device_train_batch_size", "seed")
_PLAIN: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list, "Any": Any}


@dataclass(frozen=True)
class DeclaredKeys:
    """What `read_recipe` of a stage accepts.

    Attributes:
        recipe: a dataclass with the project's own keys, their types and defaults, and a few of the libraries'.
        others: further keys that transformers or TRL declare, by name alone.
    """

    recipe: type
    others: frozenset[str]


def declared_keys(script: Path) -> DeclaredKeys | None:
    """Return the keys that a script's call of `read_recipe([...])` names, None where it has no such call."""
    source = _Source(script.resolve())
    own: list[tuple[str, Any, Any]] = []
    others = set()
    for name in source.recipe_classes():
        for key, place, statement in _fields(source, name):
            if place.is_ours or key in _READ_OF_LIBRARIES:
                type_ = place.type_of(statement.annotation)
                assert type_ is not None, f"{place.path}:{statement.lineno}: a type that this reader does not know"
                own.append((key, type_, place.default_of(statement)))
            else:
                others.add(key)
    if not own:
        return None
    return DeclaredKeys(dataclasses.make_dataclass("Recipe", own, kw_only=True), frozenset(others))


class _Source:
    """A module's source, and what the names in it stand for, here or in the modules that they are imported from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tree = ast.parse(path.read_text(encoding="utf-8"))

    @property
    def is_ours(self) -> bool:
        """Whether this is a module of the project, whose types are simple enough to be read here."""
        return any(self.path.is_relative_to(ROOT / package) for package in ("launch", "epo", "compressor"))

    def recipe_classes(self) -> list[str]:
        """Return the names of the dataclasses in the first `read_recipe([...])`."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_recipe" and node.args:
                return [ast.unparse(item) for item in getattr(node.args[0], "elts", [])]
        return []

    def definition(self, name: str) -> "tuple[_Source, ast.stmt] | None":
        """Return the statement that makes a name, and the module in which it stands."""
        for node in self._tree.body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if name == getattr(node, "name", None) or name in [getattr(target, "id", None) for target in targets]:
                return self, node
        # Also below `if TYPE_CHECKING`, where lazy packages say what they hold.
        for found in (node for node in ast.walk(self._tree) if isinstance(node, ast.ImportFrom)):
            for alias in found.names:
                path = _module_path(found, self.path) if name == (alias.asname or alias.name) else None
                if path is not None:
                    return _source(path).definition(alias.name)
        return None

    def type_of(self, node: ast.expr) -> Any:
        """Return the type that an annotation means, None where it is none of the simple ones."""
        if isinstance(node, ast.Constant):
            return type(None) if node.value is None else None
        if isinstance(node, ast.BinOp):
            left, right = self.type_of(node.left), self.type_of(node.right)
            return None if left is None or right is None else left | right
        if isinstance(node, ast.Subscript):
            if ast.unparse(node.value) == "Literal":
                return Literal[ast.literal_eval(node.slice)]  # type: ignore[valid-type]  # a tuple gives all choices
            return list[self.type_of(node.slice)] if ast.unparse(node.value) == "list" else None  # type: ignore[misc]
        found = None if ast.unparse(node) in _PLAIN else self.definition(ast.unparse(node))
        if found is not None and isinstance(found[1], ast.Assign):  # such as `ReplyChoice = Literal["last", "all"]`
            return found[0].type_of(found[1].value)
        return _PLAIN.get(ast.unparse(node))

    def default_of(self, statement: ast.AnnAssign) -> Any:
        """Return the field with which a dataclass gets the statement's default."""
        value = statement.value
        if value is None:
            return dataclasses.field()
        if not isinstance(value, ast.Call):
            return dataclasses.field(default=self._value(value))
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        if isinstance(factory := given.get("default_factory"), ast.Lambda):
            made = self._value(factory.body)
            return dataclasses.field(default_factory=lambda: list(made))
        return dataclasses.field(default=self._value(given["default"])) if "default" in given else dataclasses.field()

    def _value(self, node: ast.expr) -> Any:
        """Return a literal, also one that stands elsewhere under a name, or a list of it."""
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "list":
            return self._value(node.args[0])
        found = self.definition(node.id) if isinstance(node, ast.Name) else None
        if found is not None and isinstance(found[1], ast.Assign | ast.AnnAssign) and found[1].value is not None:
            return found[0]._value(found[1].value)
        return ast.literal_eval(node)


def _fields(source: _Source, name: str) -> Iterator[tuple[str, _Source, ast.AnnAssign]]:
    """Yield the fields of a dataclass and its bases that `__init__` takes: name, module, statement."""
    place, definition = source.definition(name) or (source, None)
    if not isinstance(definition, ast.ClassDef):
        return
    own = {
        statement.target.id: statement
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if "init=False" not in ast.unparse(statement) and "ClassVar" not in ast.unparse(statement.annotation)
    }
    for base in definition.bases:
        yield from (field for field in _fields(place, ast.unparse(base)) if field[0] not in own)
    yield from ((key, place, statement) for key, statement in own.items())


@functools.cache
def _source(path: Path) -> _Source:
    return _Source(path)


def _module_path(node: ast.ImportFrom, importer: Path) -> Path | None:
    """Return the file that an import statement reads from, without importing it."""
    parts = [] if node.module is None else node.module.split(".")
    if node.level > 0:
        folder = importer.parents[node.level - 1]
    else:
        spec = importlib.util.find_spec(parts[0])  # of a top-level package: nothing is run
        if spec is None or not spec.submodule_search_locations:
            return None
        folder, parts = Path(spec.submodule_search_locations[0]), parts[1:]
    place = folder.joinpath(*parts)
    found = (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())
    return next(found, None)


__all__ = ["ROOT", "DeclaredKeys", "declared_keys"]

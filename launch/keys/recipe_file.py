"""Recipe files: YAML of one `key: value` a line, and the keys that one may have."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

# Keys of earlier versions, and what says the same now.
REPLACED = {
    "match_marginals": "`marginals: near` for true, `marginals: free` for false",
    "drop_surplus": "`marginals: equal` for true, `marginals: near` and `max_dropped_share: 0` for false",
}


class RecipeError(ValueError):
    """A recipe that cannot be used as written; the message names the file, the key and the remedy."""


# What everybody reads as PyYAML does; it also takes 010 for eight and 1:30 for ninety.
_PLAIN_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0b[01]+)|[-+]?(?:[0-9][0-9_]*)?\.[0-9_]*\S*")


class _StrictLoader(yaml.SafeLoader):
    """Refuses what PyYAML takes and nobody means: a key that comes twice, a number to the base of eight or sixty."""

    def construct_number(self, node: Any) -> Any:
        """Return a number, or refuse one that is another than it looks."""
        if not _PLAIN_NUMBER.fullmatch(node.value):
            line = node.start_mark.line + 1
            remedy = "write it as one, or in quotes as text"
            raise yaml.YAMLError(f"line {line}: {node.value} is no decimal number; {remedy}")
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping; its keys as they are written are compared."""
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                line, said = key.start_mark.line + 1, (key.tag, key.value)
                if said in first:
                    raise yaml.YAMLError(f"key {key.value!r} comes twice, in lines {first[said]} and {line}; keep one")
                first[said] = line
        return super().construct_mapping(node, deep)


for _tag in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _StrictLoader.construct_number)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines, without checking its keys.

    Raises:
        RecipeError: the file is missing, not YAML, or no mapping, or names a key twice.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; those that come with the project lie under recipes/")
    try:
        recipe = _StrictLoader(path.read_text(encoding="utf-8-sig")).get_single_data()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also a date without a month, a number without end
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path}: want one `key: value` a line")
    return recipe


def check_key(key: str, known: Sequence[str], where: str) -> None:
    """Refuse a key that is not known, naming the nearest one that is."""
    if key in known:
        return
    if key in REPLACED:
        raise RecipeError(f"{where}: key {key!r} has been replaced: write {REPLACED[key]}")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise RecipeError(f"{where}: unknown key {key!r}; the nearest known key is {near[0]!r}")


__all__ = ["REPLACED", "RecipeError", "check_key", "read_mapping"]

"""Label maps: what each label of a corpus is among the seven emotions, or that it is left out."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from epo.data.dialogue import DataError
from epo.emotions import EMOTIONS, Emotion, UnknownEmotionError

LEAVE_OUT = "leave out"
"""What a label file writes for a label that is none of the seven: the turn stays, without emotion."""


@dataclass(frozen=True)
class LabelMap:
    """A named map of labels to emotions.

    Attributes:
        name: as `--labels` and `launch/data.py label-maps` call it.
        about: whose labels they are, and who chose what they are here.
        emotions: label in lower case -> emotion; None where the label is left out.
    """

    name: str
    about: str
    emotions: Mapping[str, Emotion | None]

    def read(self, label: str) -> Emotion | None:
        """Return the emotion of a label; case and outer blanks do not matter.

        Returns:
            None where the label is left out.

        Raises:
            UnknownEmotionError: the label is not in the map; the message lists those that are.
        """
        key = label.strip().lower()
        if key not in self.emotions:
            raise UnknownEmotionError(f"unknown emotion {label!r}; want one of {', '.join(sorted(self.emotions))}")
        return self.emotions[key]

    def as_yaml(self) -> str:
        """Return the map as the text of a label file, which `read_label_file` reads back."""
        lines = [f"# {self.about}"]
        lines += [
            f"{_quoted(label)}: {LEAVE_OUT if emotion is None else emotion}" for label, emotion in self.emotions.items()
        ]
        return "\n".join(lines) + "\n"


def read_label_file(path: Path) -> LabelMap:
    """Read a YAML file of `label: emotion` lines; every label is text, so that `01` and `no` stay what they are.

    Raises:
        DataError: the file is missing, is no such file, names a label twice or an emotion that is none of the seven.
    """
    emotions: dict[str, Emotion | None] = {}
    for line, label, value in read_pairs_of_text(path, "label: emotion"):
        key = label.strip().lower()
        where = f"{path}:{line}: {label!r}"
        if key in emotions:
            raise DataError(f"{where} comes twice; write each label once, in whatever case")
        emotions[key] = _target(value, where)
    if not emotions:
        raise DataError(f"{path}: no label; write one `label: emotion` a line, or `label: {LEAVE_OUT}`")
    return LabelMap(str(path), f"labels of {path.name}", emotions)


def read_pairs_of_text(path: Path, wanted: str) -> list[tuple[int, str, str]]:
    """Return (line number, key, value) of a flat YAML file, all of them as the text that is written there.

    Raises:
        DataError: the file is missing, is not UTF-8 or YAML, or no flat mapping of what is `wanted`.
    """
    root = _root_node(path, wanted)
    if root is None:
        return []
    rows = []
    for key, value in root.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise DataError(f"{where}: want one `{wanted}` a line")
        rows.append((key.start_mark.line + 1, key.value, value.value))
    return rows


def _root_node(path: Path, wanted: str) -> yaml.MappingNode | None:
    if not path.is_file():
        raise DataError(f"{path}: no such file; write one `{wanted}` a line")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; convert the file with `iconv -t UTF-8`") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}: want one `{wanted}` a line")
    return root


def _target(value: str, where: str) -> Emotion | None:
    key = " ".join(value.lower().replace("_", " ").split())
    if key == LEAVE_OUT:
        return None
    for emotion in EMOTIONS:
        if key == emotion:
            return emotion
    near = difflib.get_close_matches(key, [*EMOTIONS, LEAVE_OUT], n=1, cutoff=0.0)[0]
    raise DataError(
        f"{where} is {value!r}; want one of {', '.join(EMOTIONS)} or {LEAVE_OUT!r} (the nearest is {near!r})"
    )


def _quoted(label: str) -> str:
    """Return a label as a YAML key: in quotes unless it is a plain word, so that other readers see text too."""
    return (
        label if label.isalpha() and label not in ("yes", "no", "on", "off", "true", "false", "null") else f"'{label}'"
    )


__all__ = ["LEAVE_OUT", "LabelMap", "read_label_file", "read_pairs_of_text"]

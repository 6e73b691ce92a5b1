"""Table options: the recipe keys of `--corpus table`, and the `Table` they describe."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.listing import label_maps
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.table import Table
from epo.data.corpora.table_cells import FIELDS, Cell, parse_assignments
from epo.data.dialogue import SPLITS, DataError, Dialogue, Split
from epo.data.label_sets import WORDS
from epo.data.labels import LabelMap, read_label_file


@dataclass(frozen=True)
class TableOptions:
    """What only an import of a table asks."""

    columns: str | None = field(
        default=None,
        metadata={"help": "field=column, with commas between; text is needed, of " + ", ".join(FIELDS)},
    )
    files: str | None = field(
        default=None,
        metadata={
            "help": "train=a.csv,test=b.csv, or names with no split; * fits any; by default every table in "
            "root. Recordings are rows too"
        },
    )
    labels: str | None = field(
        default=None,
        metadata={"help": "a label file, or a map by name (launch/data.py label-maps); words by default"},
    )
    media: str | None = field(
        default=None, metadata={"help": "path of a row's recording below root, as clips/{Dialogue_ID}.mp4"}
    )
    audio: str | None = field(default=None, metadata={"help": "as media, for the sound alone"})
    video: str | None = field(default=None, metadata={"help": "as media, for the pictures alone"})
    rows: str | None = field(
        default=None,
        metadata={"help": "where the rows lie in JSON, as episodes.scenes.utterances; * is every member"},
    )
    pattern: list[str] | None = field(
        default=None,
        metadata={"help": "column=expression; its groups (?P<name>...) are columns too"},
    )
    values: str | None = field(
        default=None, metadata={"help": "YAML file, for each column that holds codes what each code stands for"}
    )
    user: str | None = field(
        default=None, metadata={"help": "name of the user, or an expression; by default whoever speaks first"}
    )
    remove: str | None = field(default=None, metadata={"help": "expression for what is taken out of the texts"})
    delimiter: str | None = field(default=None, metadata={"help": "between cells; by default as the header has it"})
    quotes: bool = field(
        default=True, metadata={"help": "cells may stand in quotes; no: a quote mark is a letter like any other"}
    )
    language: str = field(default="en", metadata={"help": "of all dialogues, where no column says it"})

    def table(self) -> Table:
        """Return the table that is described.

        Raises:
            DataError: an option is missing, malformed, or contradicts another.
        """
        if self.columns is None:
            raise DataError("columns: say which column is what, as text=Utterance,speaker=Speaker,emotion=Emotion")
        columns = parse_assignments(self.columns, "columns")
        _check_fields(columns)
        audio, video = self._media(columns)
        if not {"start", "end"}.isdisjoint(columns) and audio is None and video is None and "audio" not in columns:
            if "video" not in columns:
                raise DataError(
                    "columns: start and end are times in a recording; name it with --media, or leave them out"
                )
        if self.delimiter is not None and len(self.delimiter.replace("\\t", "\t")) != 1:
            raise DataError(f"delimiter: {self.delimiter!r}: want one character, or \\t")
        return Table(
            name="table",
            columns=columns,
            files=_files(self.files),
            labels=_labels(self.labels),
            audio=audio,
            video=video,
            rows=() if self.rows is None else tuple(self.rows.split(".")),
            patterns=[_pattern(text) for text in self.pattern or ()],
            values={} if self.values is None else read_values(Path(self.values)),
            user=_expression(self.user, "user"),
            remove=_expression(self.remove, "remove"),
            delimiter=None if self.delimiter is None else self.delimiter.replace("\\t", "\t"),
            quotes=self.quotes,
            language=self.language,
        )

    def _media(self, columns: Mapping[str, str]) -> tuple[str | None, str | None]:
        for name in ("audio", "video"):
            if (self.media is not None or getattr(self, name) is not None) and name in columns:
                raise DataError(f"columns: {name} is a column and --media or --{name} a path; keep one of them")
            if self.media is not None and getattr(self, name) is not None:
                raise DataError(f"media: stands for sound and pictures, and --{name} for one of them; keep one way")
        for key in ("media", "audio", "video"):
            text = getattr(self, key)
            if text is not None and not Cell(text).is_template:
                raise DataError(f"{key}: {text!r} names no column; write one in braces, as {{name}}.wav")
        if self.media is not None:
            return self.media, self.media
        return self.audio, self.video


def read_values(path: Path) -> dict[str, dict[str, str]]:
    """Read a YAML file that says for each column what its codes stand for; codes are text, as they are written.

    Raises:
        DataError: the file is missing or is not that.
    """
    wanted = "column, and below it, further in, one `code: meaning` a line"
    if not path.is_file():
        raise DataError(f"values: {path}: no such file; want a {wanted}")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    columns: dict[str, dict[str, str]] = {}
    for column, codes in root.value if isinstance(root, yaml.MappingNode) else ():
        if not isinstance(codes, yaml.MappingNode):
            raise DataError(f"{path}:{column.start_mark.line + 1}: want a {wanted}")
        columns[str(column.value)] = found = dict[str, str]()
        for code, meaning in codes.value:
            if str(code.value) in found:
                raise DataError(f"{path}:{code.start_mark.line + 1}: {code.value!r:.60} comes twice; keep one")
            found[str(code.value)] = str(meaning.value)
    if not columns:
        raise DataError(f"{path}: want a {wanted}")
    return columns


def read_table(
    root: Path, media: MediaFolder, report: ImportReport, options: TableOptions = TableOptions()
) -> Iterator[Dialogue]:
    """Yield the dialogues of the table that the options describe."""
    yield from options.table().read(root, media, report)


def _check_fields(columns: Mapping[str, str]) -> None:
    for name in columns:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.0)[0]
            raise DataError(f"columns: no field {name!r}, the nearest is {near!r}; want some of {', '.join(FIELDS)}")
    if "text" not in columns:
        raise DataError("columns: say which column holds the words, as text=Utterance")
    if "order" in columns and "dialogue" not in columns:
        raise DataError("columns: order sorts the rows of a dialogue; name its column too, as dialogue=Dialogue_ID")


def _files(text: str | None) -> dict[str, Split | None]:
    """Return glob -> split of `train=a.csv,b.csv`."""
    files: dict[str, Split | None] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, sign, pattern = part.partition("=")
        split = next((split for split in SPLITS if split == name.strip()), None)
        if sign and split is None:
            raise DataError(f"files: {part!r}: want one of {', '.join(SPLITS)} before the =")
        files[pattern.strip() if sign else part] = split
    return files


def _labels(text: str | None) -> LabelMap:
    if text is None:
        return WORDS
    maps = label_maps()
    if text in maps:
        return maps[text]
    if Path(text).is_file() or Path(text).suffix in (".yaml", ".yml"):
        return read_label_file(Path(text))
    near = difflib.get_close_matches(text, maps, n=1, cutoff=0.0)[0]
    raise DataError(f"labels: {text!r} is no file and no map, the nearest is {near!r}; there are {', '.join(maps)}")


def _pattern(text: str) -> tuple[str, re.Pattern[str]]:
    column, sign, expression = text.partition("=")
    compiled = _expression(expression, "pattern")
    if not sign or compiled is None or not compiled.groupindex:
        raise DataError(f"pattern: {text!r}: want column=expression with named groups, as name=(?P<speaker>\\d+)_")
    return column.strip(), compiled


def _expression(text: str | None, key: str) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise DataError(f"{key}: {text!r} is no regular expression ({error})") from None


CORPORA = (
    Corpus(
        "table",
        "any CSV, TSV, JSONL or JSON table, or recordings with telling names",
        "your own data: note its terms here",
        read_table,
        options=TableOptions,
        check=lambda options: options.table(),
    ),
)

__all__ = ["CORPORA", "TableOptions", "read_table", "read_values"]

"""Table: dialogues from rows of any names, one utterance a row, or several in one; settings only, no code."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.table_cells import (
    Cell,
    as_text,
    find_columns,
    look_up,
    natural_key,
)
from epo.data.corpora.table_clips import ClipColumns
from epo.data.corpora.table_files import PICTURES, SOUND, Row, TableForm, kind_of, read_rows, without_ending
from epo.data.corpora.table_sources import SPLIT_WORDS, find_files
from epo.data.corpora.turns import alternate_roles, read_label
from epo.data.dialogue import Clip, DataError, Dialogue, Speaker, Split, Turn
from epo.data.label_sets import WORDS
from epo.data.labels import LabelMap
from epo.emotions import UnknownEmotionError


@dataclass(frozen=True)
class Table:
    """How the rows of a corpus become dialogues.

    Attributes:
        name: comes first in the ids.
        columns: field (`table_cells.FIELDS`) -> column, columns or template.
        files: glob below the corpus -> split; None leaves the split to the column or to the import. An empty mapping
            is every table in the folder itself, each of the split that its name says.
        labels: what the labels are.
        audio: template of the sound's path below the corpus; None where there is none, or a column says it.
        video: likewise of the pictures.
        rows: members of a JSON object that hold the rows, from outside in.
        patterns: (column, expression): each named group of what is found in the column is a column too.
        values: column -> what a code in it stands for.
        user: whose turns are the user's, as an expression over all of a speaker's name; None is whoever speaks first.
        remove: what is taken out of the texts.
        delimiter: of separated files; None looks at the first line.
        quotes: whether cells of separated files may stand in quotes; if not, a quote mark is a letter like any other.
        language: where no column says it.
        needs_all_files: whether each name of `files` must fit a file, or one of them is enough.
    """

    name: str
    columns: Mapping[str, str]
    files: Mapping[str, Split | None] = field(default_factory=dict)
    labels: LabelMap = WORDS
    audio: str | None = None
    video: str | None = None
    rows: Sequence[str] = ()
    patterns: Sequence[tuple[str, re.Pattern[str]]] = ()
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    user: re.Pattern[str] | None = None
    remove: re.Pattern[str] | None = None
    delimiter: str | None = None
    quotes: bool = True
    language: str = "en"
    needs_all_files: bool = True

    def read(self, root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
        """Yield the dialogues of a folder; one file's rows are held at a time.

        Raises:
            DataError: a file or column is missing, or a row is faulty and `report` says to stop.
        """
        reading = _Reading(self, root, media, report)
        for paths, split in find_files(root, self.files, self.needs_all_files, report):
            yield from reading.dialogues_of(paths, split)
        reading.require_user()


@dataclass(frozen=True, slots=True)
class _Utterance:
    """One turn to be; texts as in the corpus."""

    where: str
    order: str
    speaker: str
    text: str
    label: str
    strategy: str | None
    description: str | None
    clip: tuple[str, str, str, str]  # audio, video, start, end


@dataclass(slots=True)
class _Talk:
    """The utterances of one dialogue and what its first row says of it."""

    split: Split | None
    group: str | None
    background: str | None
    language: str
    utterances: list[_Utterance]


class _Reading:
    """One pass over a corpus."""

    def __init__(self, table: Table, root: Path, media: MediaFolder, report: ImportReport) -> None:
        self.table, self.root, self.media, self.report = table, root, media, report
        self.cells = {name: Cell(source) for name, source in table.columns.items()}
        self.clips = ClipColumns(table.audio, table.video, root, media, report)
        self._form = TableForm(table.rows, table.delimiter, table.quotes)
        self.speakers: Counter[str] = Counter()
        self.found_user = table.user is None

    def dialogues_of(self, paths: list[Path], split: Split | None) -> Iterator[Dialogue]:
        """Yield the dialogues of a table, or of recordings."""
        talks: dict[str, _Talk] = {}
        for path in paths:
            self._collect(path, split, talks)
        self._refuse_unknown_labels(paths[0], talks)
        is_table = kind_of(paths[0]) not in SOUND + PICTURES
        prefix = f"{self.table.name}-" + (
            f"{without_ending(paths[0].relative_to(self.root).as_posix())}-" if is_table else ""
        )
        for key, talk in talks.items():
            turns = self._turns(talk.utterances)
            if turns:
                group = None if talk.group is None else f"{self.table.name}-{talk.group}"
                yield Dialogue(prefix + key, turns, talk.language, talk.split, group=group, background=talk.background)

    def require_user(self) -> None:
        """Refuse a `user` that is nobody's name."""
        if not self.found_user:
            assert self.table.user is not None
            names = ", ".join(f"{name!r} ({count})" for name, count in self.speakers.most_common(8))
            raise DataError(f"user: nobody is called {self.table.user.pattern!r}; the speakers are {names}")

    def _collect(self, path: Path, split: Split | None, talks: dict[str, _Talk]) -> None:
        """Group the rows of a file by dialogue, also where they do not stand together."""
        found: dict[str, str] | None = None
        seen: set[str] = set()
        for where, entry, row in read_rows(path, self.root, self._form, self.report):
            if not self._add_columns(row, where):
                continue
            if found is None:
                found = self._find(row, path)
            seen |= row.keys()
            self._add(talks, row, found, where, entry, split)
        if found is not None:
            # A member that one JSON row lacks is nothing there; one that all of them lack is a mistake.
            find_columns([name for name in found.values() if "." not in name], sorted(seen), str(path))

    def _find(self, row: Row, path: Path) -> dict[str, str]:
        wanted = dict.fromkeys(name for cell in [*self.cells.values(), *self.clips.cells] for name in cell.names)
        if kind_of(path) in (".json", ".jsonl", ".ndjson"):
            absent = [name for name in wanted if name not in row and name.split(".")[0] not in row]
            near = {name: column for name in absent for column in row if column.lower() == name.lower()}
            return {name: near.get(name, name) for name in wanted}
        return find_columns(wanted, list(row), str(path))

    def _add_columns(self, row: Row, where: str) -> bool:
        """Add what patterns find and codes stand for; False where a pattern does not fit."""
        for column, pattern in self.table.patterns:
            text = as_text(look_up(row, find_columns([column], list(row), where)[column]))
            match = pattern.search(text)
            if match is None:
                self.report.fault(
                    f"{column} does not fit the pattern", f"{where}: {text!r}", "correct --pattern or the row"
                )
                return False
            row.update({name: value for name, value in match.groupdict().items() if value is not None})
        for column, meanings in self.table.values.items():
            code = as_text(row.get(column))
            if code in meanings:
                row[column] = meanings[code]
            else:
                self.report.fault(f"{column} has no meaning for {code!r}", where, f"add it to the values of {column}")
                return False
        return True

    def _add(
        self, talks: dict[str, _Talk], row: Row, found: dict[str, str], where: str, entry: str, split: Split | None
    ) -> None:
        one = {name: self._one(name, row, found) for name in ("dialogue", "split", "group", "background", "language")}
        key = one["dialogue"] if "dialogue" in self.cells else entry
        if not key:
            self.report.fault("row names no dialogue", where, f"fill in {self.cells['dialogue'].source}")
            return
        utterances = self._utterances(row, found, where)
        if not utterances:
            return
        said = self._split(one["split"], split, where)
        talk = talks.get(key)
        if talk is None:
            talk = talks[key] = _Talk(
                said, one["group"] or None, one["background"] or None, one["language"] or self.table.language, []
            )
        elif said != talk.split and one["split"]:
            wrong = f"{where}: {said}, but {talk.split} in its first row"
            self.report.fault("rows of one dialogue name different splits: the first counts", wrong, "correct the rows")
        elif (one["group"] or talk.group) != talk.group:
            wrong = f"{where}: {one['group']!r:.40}, but {talk.group!r:.40} in its first row"
            self.report.note("rows of one dialogue name different groups: the first counts", wrong)
        talk.utterances += utterances

    def _one(self, name: str, row: Row, found: dict[str, str]) -> str:
        return as_text(self.cells[name].values(row, found)[0]) if name in self.cells else ""

    def _utterances(self, row: Row, found: dict[str, str], where: str) -> list[_Utterance]:
        """Return the turns of a row: one, or as many as its text has parts."""
        texts = self._parts("text", row, found)
        columns = {
            name: self._parts(name, row, found)
            for name in ("order", "speaker", "emotion", "strategy", "description", "start", "end", "audio", "video")
        }
        for kind in ("audio", "video"):
            columns[kind] = columns[kind] or self.clips.paths(kind, row, found)
        uneven = [
            f"{len(values)} of {name}" for name, values in columns.items() if len(values) not in (0, 1, len(texts))
        ]
        if uneven:
            wrong = f"{where} ({len(texts)} texts, {', '.join(uneven)})"
            self.report.fault("row has not as many values as turns", wrong, "complete the row")
            return []
        utterances = []
        for index, text in enumerate(texts):
            cell = {name: _part(values, index, len(texts), name) for name, values in columns.items()}
            if self.table.remove is not None:
                text = self._without_marks(text, where)
            if not text:
                self.report.fault("utterance is empty", where, "write the words, or remove the row")
                continue
            if not is_encodable(text):
                self.report.fault("row is not UTF-8", where, "convert the file with `iconv -t UTF-8`")
                continue
            clip = (cell["audio"], cell["video"], cell["start"], cell["end"])
            utterances.append(
                _Utterance(
                    where, cell["order"], cell["speaker"], text, cell["emotion"],
                    cell["strategy"] or None, cell["description"] or None, clip,
                )
            )  # fmt: skip
        return utterances

    def _without_marks(self, text: str, where: str) -> str:
        assert self.table.remove is not None
        kept = " ".join(self.table.remove.sub("", text).split())
        if text and not kept:
            self.report.note("nothing but what is to be removed: kept as it is", where)
            return text
        return kept

    def _parts(self, name: str, row: Row, found: dict[str, str]) -> list[str]:
        """Return a field's values, one a turn; a list in a single column is the turns' too."""
        if name not in self.cells:
            return []
        values = self.cells[name].values(row, found)
        if len(values) == 1 and isinstance(values[0], list) and name != "speaker":
            values = values[0]
        return [as_text(value) for value in values]

    def _split(self, text: str, of_file: Split | None, where: str) -> Split | None:
        if not text:
            return of_file
        split = SPLIT_WORDS.get(text.lower())
        if split is None:
            self.report.fault(f"split {text!r} is not known", where, "want train, validation or test")
        return split

    def _refuse_unknown_labels(self, path: Path, talks: Mapping[str, _Talk]) -> None:
        """Name every label that the map lacks, with its count, before the first turn is written."""
        counts = Counter(turn.label for talk in talks.values() for turn in talk.utterances if turn.label)
        unknown = {label: count for label, count in counts.most_common() if not self._knows(label)}
        if unknown and self.report.on_error == "stop":
            named = ", ".join(f"{label!r} ({count})" for label, count in unknown.items())
            raise DataError(
                f"{path}: {len(unknown)} of {len(counts)} labels are not in the map {self.table.labels.name!r}: "
                f"{named}; write what each is into a --labels file, as `label: happy` or `label: leave out`, or keep "
                "such turns without emotion with --on_error skip"
            )

    def _knows(self, label: str) -> bool:
        try:
            self.table.labels.read(label)
        except UnknownEmotionError:
            return False
        return True

    def _turns(self, utterances: list[_Utterance]) -> tuple[Turn, ...]:
        if "order" in self.cells:
            keys = [natural_key(utterance.order) for utterance in utterances]
            if len(set(keys)) < len({utterance.where for utterance in utterances}):
                self.report.note("rows of one dialogue share their place: kept as in the file", utterances[0].where)
            if keys != sorted(keys):
                self.report.note("rows out of order", utterances[0].where)
            utterances = [
                utterance for _, utterance in sorted(zip(keys, utterances, strict=True), key=lambda pair: pair[0])
            ]
        return tuple(
            Turn(
                role,
                line.text,
                self._emotion(line),
                self._clip(line),
                line.speaker or None,
                line.strategy,
                line.description,
            )
            for role, line in zip(self._roles(utterances), utterances, strict=True)
        )

    def _roles(self, utterances: list[_Utterance]) -> list[Speaker]:
        names = [utterance.speaker for utterance in utterances]
        self.speakers.update(set(names))
        if self.table.user is not None:
            roles: list[Speaker] = ["user" if self.table.user.fullmatch(name) else "assistant" for name in names]
            self.found_user = self.found_user or "user" in roles
            if "user" not in roles:
                self.report.note("dialogue without a turn of the user", utterances[0].where)
            return roles
        if "speaker" not in self.cells:
            return alternate_roles([str(index) for index in range(len(utterances))])
        if len(set(names)) > 2:
            self.report.note("dialogue of more than two speakers", utterances[0].where)
        return alternate_roles(names)

    def _emotion(self, line: _Utterance) -> Any:
        if line.label and not self._knows(line.label):
            # by label, so that the card says what is missing in the map and how often
            kind = f"label {line.label!r} is not in the map {self.table.labels.name!r}"
            self.report.fault(kind, line.where, "add it to the map")
            return None
        if line.label:
            return read_label(line.label, self.table.labels, line.where, self.report)
        if "emotion" in self.cells:
            self.report.note("turn without a label", line.where)
        return None

    def _clip(self, line: _Utterance) -> Clip | None:
        return self.clips.place(*line.clip, line.where)


def _part(values: Sequence[str], index: int, num_turns: int, name: str) -> str:
    """Return a turn's value of a row; of several turns a single value is the first turn's (the user's)."""
    if not values:
        return ""
    if len(values) == 1 and name == "order":
        return values[0]
    if len(values) == 1 and name in ("emotion", "strategy", "audio", "video", "start", "end", "description"):
        return values[0] if index == 0 else ""
    return values[index] if index < len(values) else ""


__all__ = ["Table"]

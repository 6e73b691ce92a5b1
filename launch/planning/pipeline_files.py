"""The files between the stages of a pipeline: which stage writes them, and what is or will be in them."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo.data.dialogue import SPLITS, DataError, Dialogue, Split, read_dialogues
from epo.data.replies import Reply
from epo.part_names import find_part
from epo.preferences.gold import draw_gold, gold_of_splits
from epo.preferences.pair import pairs_of_split, pairs_to_learn, read_pairs
from launch.recipe import RecipeError

if TYPE_CHECKING:
    from epo.data.corpora.builtin import BuiltinCorpus

_FILES = {"data.py": ("dialogues.jsonl", "descriptions.jsonl"), "preferences.py": ("pairs.jsonl",)}


@dataclass(frozen=True)
class Writer:
    """A stage of the run that writes a folder: its name, its script's name, and its recipe, None if that is faulty."""

    stage: str
    script: str
    recipe: Any


class StageFiles:
    """What each stage of a run finds when it starts: what lies on disk, and what the stages before it write."""

    def __init__(self) -> None:
        self._writers: dict[str, Writer] = {}
        self._dialogues: dict[str, list[Dialogue] | DataError] = {}

    def add(self, writer: Writer, output_dir: str) -> None:
        """Note what a stage writes, for the stages after it."""
        for path in (output_dir, *(os.path.join(output_dir, name) for name in _FILES.get(writer.script, ()))):
            self._writers[os.path.abspath(path)] = writer

    def writer(self, path: str) -> Writer | None:
        """Return the stage of this run that writes a file or folder."""
        return self._writers.get(os.path.abspath(path))

    def undecided(self, data: str) -> str | None:
        """Return the stage that decides what is in a dialogues file; None if it is there, or known from a recipe."""
        writer = self.writer(data)
        return None if writer is None or _is_builtin(writer) else writer.stage

    def dialogues(self, data: str) -> list[Dialogue] | None:
        """Return the dialogues of a file, None where it has yet to be written from a corpus.

        A file that is there counts as it lies, also where a stage of this run may write it anew. The built-in corpus
        is known before it is written.

        Raises:
            DataError: the file is missing and no stage before writes it, or it is faulty.
        """
        if self.undecided(data) is not None and not Path(data).is_file():
            return None
        place = os.path.abspath(data)
        if place not in self._dialogues:
            try:
                writer = self.writer(data)
                is_planned = writer is not None and _is_builtin(writer)
                self._dialogues[place] = _plan(writer) if writer is not None and is_planned else [*read_dialogues(data)]
            except DataError as error:
                self._dialogues[place] = error
        found = self._dialogues[place]
        if isinstance(found, DataError):
            raise found
        return found

    def gold(self, recipe: Any) -> Mapping[Split, list[Reply]] | None:
        """Return the replies that a preferences recipe builds pairs on, None where they are not known yet.

        Raises:
            DataError: the dialogues are missing or faulty, or none of them has such a reply.
        """
        dialogues = self.dialogues(recipe.data)
        if dialogues is None:
            return None
        whole = gold_of_splits(dialogues, recipe.splits, recipe.replies, recipe.require_clip, recipe.data)
        return draw_gold(whole, recipe.max_replies, recipe.seed)

    def pairs(self, path: str, data: str, is_learnt: bool) -> Mapping[Split, list[Reply]] | None:
        """Return the example of each pair, by split; of pairs that have yet to be built, each that there can be.

        Args:
            path: of the pairs.
            data: of the dialogues that they point into.
            is_learnt: whether there must be training pairs.

        Raises:
            DataError: a file is missing or faulty.
            RecipeError: a stage before this one writes the pairs, but none to train on.
        """
        writer = self.writer(path)
        if writer is not None:
            gold = None if writer.recipe is None else self.gold(writer.recipe)
            if is_learnt and gold is not None and not gold.get("train"):
                raise RecipeError(
                    f"{path}: stage {writer.stage} will build no pair on split 'train': its splits are "
                    f"{', '.join(writer.recipe.splits)}, and it wants assistant turns with an emotion after a user turn"
                )
            return gold
        dialogues = self.dialogues(data)
        if dialogues is None:
            return None
        by_id = {dialogue.id: dialogue for dialogue in dialogues}
        pairs = read_pairs(path, by_id)
        if is_learnt:
            pairs_to_learn(pairs, path, data)
        return {split: [pair.reply for pair in pairs_of_split(pairs, split)] for split in SPLITS}

    def require_part(self, part: str, root: str | None = None) -> None:
        """Refuse a part that is neither there nor made by a stage before; names on the hub are left alone.

        Args:
            part: as the recipe names it.
            root: folder of parts (`epo.part_names`).

        Raises:
            RecipeError: there is no such file or folder, or no model in it.
            PartError: the folder of parts is none, or a folder is given a revision.
        """
        if self.writer(part) is not None:
            return
        place = find_part(part, root)
        if place.file is not None:
            if place.is_local and not Path(place.source, place.file).is_file():
                raise RecipeError(f"{part}: no such file; want a folder or a hub name before {place.file}")
        elif place.looked_at and place.is_local:
            if not Path(place.source, "config.json").is_file():
                raise RecipeError(f"{part}: {place.source} holds no model (no config.json); get it anew")
        elif part.endswith(".json"):
            if not Path(part).is_file():
                raise RecipeError(f"{part}: no such file; those that come with the project lie in recipes/*/parts")
        elif Path(part).is_dir():
            if not any((Path(part) / name).is_file() for name in ("config.json", "adapter_config.json")):
                raise RecipeError(f"{part}: holds no model (no config.json); run the stage that writes it to its end")
        elif self._is_path(part):
            raise RecipeError(f"{part}: no such folder, and no stage before this one writes it")

    def require_vad_head(self, folder: str | None) -> None:
        """Refuse an extractor that cannot measure valence, arousal and dominance, before anything is loaded.

        Args:
            folder: that is there, or that a stage before writes; None for none.

        Raises:
            RecipeError: it has no head for them.
        """
        writer = None if folder is None else self.writer(folder)
        if writer is not None:
            has_none = getattr(writer.recipe, "vad_weight", None) == 0
        else:
            config = None if folder is None else Path(folder, "config.json")
            has_none = (
                config is not None
                and config.is_file()
                and not json.loads(config.read_text("utf-8")).get("has_vad", False)
            )
        if has_none:
            raise RecipeError(
                f"vad_extractor: {folder} has no head for valence, arousal and dominance; name a folder that "
                "launch/extractor.py writes with vad_weight above 0 (a whole model carries none)"
            )

    def _is_path(self, part: str) -> bool:
        """Tell a path from a name on the hub, which is `model` or `owner/model`."""
        first, _, rest = part.partition("/")
        if first in ("", ".", "..", "~") or "/" in rest:
            return True
        top = Path(os.path.abspath(first))
        return rest != "" and (top.is_dir() or any(Path(place).is_relative_to(top) for place in self._writers))


def _is_builtin(writer: Writer) -> bool:
    return writer.script == "data.py" and getattr(writer.recipe, "corpus", None) == "builtin"


def _plan(writer: Writer) -> list[Dialogue]:
    """Return the dialogues of the built-in corpus that a recipe asks for."""
    from epo.data.corpora.builtin import plan_builtin_corpus

    return plan_builtin_corpus(Path(writer.recipe.output_dir), builtin_settings(writer.recipe))


def builtin_settings(recipe: Any) -> "BuiltinCorpus":
    """Return the built-in corpus's part of an import's recipe.

    Raises:
        DataError: no corpus can have these sizes.
    """
    from epo.data.corpora.builtin import BuiltinCorpus

    return BuiltinCorpus(**{field.name: getattr(recipe, field.name) for field in dataclasses.fields(BuiltinCorpus)})


def require_parts_named(recipe: Any) -> None:
    """Refuse an SFT recipe that does not say what to tune.

    Raises:
        RecipeError: names the keys that are missing.
    """
    if recipe.input == "text" and recipe.llm is None:
        raise RecipeError("llm: name the language model to tune")
    if recipe.input == "audio_visual" and recipe.model is None:
        missing = [name for name in ("llm", "extractor", "compressor") if getattr(recipe, name) is None]
        if missing:
            raise RecipeError(f"{', '.join(missing)}: name all three parts, or `model`, a whole one to go on with")


def require_something_tested(recipe: Any) -> None:
    """Refuse an evaluation recipe that does not say what to test.

    Raises:
        RecipeError: it names no model and no file of replies.
    """
    named = (recipe.models, recipe.chat_models, recipe.answers, recipe.sft, recipe.control, recipe.epo, recipe.cascade)
    if not any(named):
        raise RecipeError(
            "name what to test: models (folders), answers (a file of replies), chat_models, or sft, control and epo"
        )


__all__ = ["StageFiles", "Writer", "builtin_settings", "require_parts_named", "require_something_tested"]

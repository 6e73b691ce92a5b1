"""`data import`: read a corpus folder, or write the built-in corpus, into a folder with `dialogues.jsonl` and media."""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.corpora.builtin.espeak import espeak_version
from epo.data.corpora.import_report import ImportReport, OnError
from epo.data.corpora.importing import import_corpus, missing_splits
from epo.data.corpora.listing import corpora
from epo.data.splits import SplitBy, SplitShares
from launch.data_verbs.derived_corpus import with_output_dir
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import OutputKeys, SeedKeys, StageRecipe
from launch.recipe import ChosenBy, RecipeError, flag_value, read_recipe
from launch.tracking import open_run


@dataclass(kw_only=True)
class ImportRecipe(SeedKeys, OutputKeys, StageRecipe):
    """Read a corpus as downloaded, or write the built-in one, into a folder with `dialogues.jsonl` and `media/`."""

    corpus: str = field(
        default="builtin",
        metadata={"help": "whose folder is read; docs/corpora.md shows how each must lie"},
    )
    root: str | None = field(default=None, metadata={"help": "the corpus folder; not for builtin"})
    on_error: OnError = field(
        default="stop", metadata={"help": "at the first fault, or leave out and count the label, clip or turn"}
    )
    validation_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    test_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    split_by: SplitBy = field(default="group", metadata={"help": "what is never torn apart (a group: speaker, show)"})
    min_split: int = field(default=1, metadata={"help": "dialogues that validation and test have at least"})
    max_dialogues: int | None = field(
        default=None, metadata={"help": "of all splits, a seeded part of each; none: all; not for builtin"}
    )
    decode: bool = field(default=True, metadata={"help": "read each clip to find broken ones; no: only open them"})
    workers: int = field(default=2, metadata={"help": "processes that write or read clips"})


_BUILTIN_SIZES = dataclasses.make_dataclass(
    "BuiltinSizes",
    [
        (entry.name, entry.type, field(default=entry.default, metadata=entry.metadata))
        for entry in dataclasses.fields(BuiltinCorpus)
        if entry.name != "seed"
    ],
    namespace={"__doc__": BuiltinCorpus.__doc__},
)
"""The keys of the built-in corpus; its seed is a key of every import, whose splits it draws."""


def _options_of(corpus: str) -> type[Any] | None:
    """Return the keys that only one corpus has.

    Raises:
        RecipeError: no such corpus; names the nearest.
    """
    if corpus == "builtin":
        return _BUILTIN_SIZES
    if corpus not in corpora():
        near = difflib.get_close_matches(corpus, _names(), n=1, cutoff=0.0)[0]
        known = ", ".join(_names())
        raise RecipeError(f"{corpus!r} is not known, the nearest is {near!r}; want one of {known}")
    return corpora()[corpus].options


def _names() -> list[str]:
    return ["builtin", *corpora()]


RECIPES = [ImportRecipe, ChosenBy("corpus", "builtin", _options_of, _names)]
"""The keys of an import: its own, and those that only its corpus has."""


def run(argv: Sequence[str]) -> None:
    """Write the corpus that a recipe names, unless this very recipe was finished before."""
    argv = with_output_dir(argv)
    is_asked = any(argument in ("-h", "--help", "--help-all") for argument in argv)
    if is_asked and flag_value(argv, "--corpus") is None:  # a screen of which there are; with one, of its options
        print(_listing())
        read_recipe([ImportRecipe], argv)
    recipes = read_recipe(RECIPES, argv)
    recipe, *options = recipes
    check_recipe(SimpleNamespace(**{key: value for part in recipes for key, value in vars(part).items()}))
    out = Path(recipe.output_dir)
    # The built-in corpus takes minutes to write, and is taken up where it stopped; an import only links files.
    kept = None if recipe.corpus == "builtin" else ["dialogues.jsonl"]
    with open_folder(out, list(recipes), argv, rewritten=kept) as folder:
        if folder.is_done:
            return
        with open_run("data", recipe.pipeline, recipe.experiment, out, folder.resolved) as run:
            if recipe.corpus == "builtin":
                write_builtin_corpus(out, BuiltinCorpus(seed=recipe.seed, **vars(options[0])), recipe.workers)
                card = json.loads((out / "card.json").read_text(encoding="utf-8"))
            else:
                card = _import(recipe, options[0] if options else None, out)
                run.log_metrics(
                    {f"{kind}/{split}": card[kind][split] for kind in ("dialogues", "turns") for split in card[kind]}
                )
            run.log_artifact(out / "card.json")
        folder.finish(card)
    print(f"wrote {out / 'dialogues.jsonl'}")


def check_recipe(keys: Any) -> None:
    """Refuse settings that a corpus cannot be read with, and a missing folder.

    Args:
        keys: has every key of an import as an attribute, those of its corpus included.

    Raises:
        RecipeError, DataError: with the remedy.
    """
    if keys.max_dialogues is not None and keys.max_dialogues < 1:
        raise RecipeError(f"max_dialogues is {keys.max_dialogues}, want 1 or more; leave it out to keep all")
    if keys.corpus == "builtin":
        if keys.max_dialogues is not None:
            raise RecipeError("max_dialogues: the built-in corpus has sizes of its own: set num_train and the like")
        if keys.root is not None:
            raise RecipeError("root: the built-in corpus is generated, not read; leave root out or name a corpus")
        if keys.voice == "espeak":
            espeak_version()
        return
    if keys.root is None:
        raise RecipeError(f"root: say where the corpus {keys.corpus} lies; docs/corpora.md shows its layout")
    if not Path(keys.root).is_dir():
        raise RecipeError(f"root: {keys.root}: no such folder; docs/corpora.md shows how {keys.corpus} must lie")
    corpus = corpora()[keys.corpus]
    if corpus.check is not None:
        corpus.check(_options(keys))


def _options(keys: Any) -> Any:
    """Return the options of the corpus that is read, None where it has none."""
    type_ = corpora()[keys.corpus].options
    return (
        None
        if type_ is None
        else type_(**{entry.name: getattr(keys, entry.name) for entry in dataclasses.fields(type_)})
    )


def _listing() -> str:
    """Return one line a corpus."""
    rows = {"builtin": "the built-in corpus: generated, not read; docs/corpus.md says what is in it"}
    rows |= {name: corpus.about for name, corpus in corpora().items()}
    return "\n".join(["corpora:", *(f"  {name:{max(map(len, rows)) + 2}}{about}" for name, about in rows.items()), ""])


def _import(recipe: ImportRecipe, options: Any, out: Path) -> dict[str, Any]:
    assert recipe.root is not None
    corpus = corpora()[recipe.corpus]
    report = ImportReport(recipe.on_error)
    shares = SplitShares(recipe.validation_share, recipe.test_share, recipe.seed, recipe.split_by, recipe.min_split)
    card = import_corpus(
        corpus.reader(options),
        Path(recipe.root),
        out,
        shares,
        report,
        {"corpus": recipe.corpus, "licence": corpus.licence},
        decode=recipe.decode,
        workers=recipe.workers,
        max_dialogues=recipe.max_dialogues,
    )
    print(*report.summary(), sep="\n")
    for kind in ("dialogues", "turns"):
        print(f"{kind}: " + ", ".join(f"{count} {split}" for split, count in card[kind].items()))
    if "not_drawn" in card:
        print("not drawn: " + ", ".join(f"{count} {split}" for split, count in card["not_drawn"].items()))
    print(*card["splits"], *missing_splits(card, shares), sep="\n")
    return card

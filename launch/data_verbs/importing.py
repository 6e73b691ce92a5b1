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
from epo.data.corpora.importing import import_corpus, missing_splits
from epo.data.corpora.listing import corpora, option_types
from epo.data.corpora.report import ImportReport, OnError
from epo.data.splits import SplitBy, SplitShares
from launch.recipe import RecipeError, read_recipe
from launch.recipe_pieces import OutputKeys, StageRecipe
from launch.stage_folder import open_folder
from launch.tracking import open_run


@dataclass(kw_only=True)
class ImportRecipe(OutputKeys, StageRecipe):
    """Read a corpus as downloaded, or write the built-in one, into a folder with `dialogues.jsonl` and `media/`."""

    corpus: str = field(
        default="builtin",
        metadata={"help": "which corpus, of those listed above; docs/corpora.md shows how each must lie"},
    )
    root: str | None = field(default=None, metadata={"help": "the corpus folder; not for builtin"})
    on_error: OnError = field(
        default="stop",
        metadata={
            "help": "stop at the first fault; or skip: leave out and count the label, clip, turn or row that is broken "
            "(a dialogue only if it has no id of its own or no turn left)"
        },
    )
    validation_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    test_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    split_by: SplitBy = field(
        default="group", metadata={"help": "what is never torn apart: dialogues of one group (speaker, show), or none"}
    )
    min_split: int = field(
        default=1, metadata={"help": "dialogues that validation and test have at least, if it can be"}
    )
    decode: bool = field(
        default=True, metadata={"help": "read every clip as training will, to find what is broken; no: only open them"}
    )
    workers: int = field(default=2, metadata={"help": "processes that write or read clips"})


RECIPES = [ImportRecipe, BuiltinCorpus, *option_types()]
"""The keys of an import: its own, the built-in corpus's, and those that only one corpus has."""


def run(argv: Sequence[str]) -> None:
    """Write the corpus that a recipe names, unless this very recipe was finished before."""
    argv = ["--output_dir" + argument[5:] if argument.split("=")[0] == "--out" else argument for argument in argv]
    if "--help" in argv or "-h" in argv:
        print(_listing())
    recipes = read_recipe(RECIPES, argv)
    keys = SimpleNamespace(**{key: value for recipe in recipes for key, value in vars(recipe).items()})
    check_recipe(keys)
    recipe, builtin = recipes[:2]
    out = Path(recipe.output_dir)
    # The built-in corpus takes minutes to write, and is taken up where it stopped; an import only links files.
    kept = None if recipe.corpus == "builtin" else ["dialogues.jsonl"]
    with open_folder(out, list(recipes), argv, rewritten=kept) as folder:
        if folder.is_done:
            return
        with open_run("data", recipe.pipeline, recipe.experiment, out, folder.resolved) as run:
            if recipe.corpus == "builtin":
                write_builtin_corpus(out, builtin, recipe.workers)
                card = json.loads((out / "card.json").read_text(encoding="utf-8"))
            else:
                card = _import(recipe, builtin.seed, _options(keys), out)
                run.log_metrics(
                    {f"{kind}/{split}": card[kind][split] for kind in ("dialogues", "turns") for split in card[kind]}
                )
            run.log_artifact(out / "card.json")
        folder.finish(card)
    print(f"wrote {out / 'dialogues.jsonl'}")


def check_recipe(keys: Any) -> None:
    """Refuse a corpus that is not known, settings that it would ignore or cannot be read with, and a missing folder.

    Args:
        keys: has every key of `RECIPES` as an attribute.

    Raises:
        RecipeError, DataError: with the remedy.
    """
    known = ["builtin", *corpora()]
    if keys.corpus not in known:
        near = difflib.get_close_matches(keys.corpus, known, n=1, cutoff=0.0)[0]
        raise RecipeError(
            f"corpus: {keys.corpus!r} is not known, the nearest is {near!r}; want one of {', '.join(known)}"
        )
    _refuse_others_options(keys)
    if keys.corpus == "builtin":
        if keys.root is not None:
            raise RecipeError("root: the built-in corpus is generated, not read; leave root out or name a corpus")
        return
    if keys.root is None:
        raise RecipeError(f"root: say where the corpus {keys.corpus} lies; docs/corpora.md shows its layout")
    if not Path(keys.root).is_dir():
        raise RecipeError(f"root: {keys.root}: no such folder; docs/corpora.md shows how {keys.corpus} must lie")
    corpus = corpora()[keys.corpus]
    if corpus.check is not None:
        corpus.check(_options(keys))


def _refuse_others_options(keys: Any) -> None:
    """Refuse each option of another corpus that was set, naming whose it is."""
    owners: dict[type[Any], list[str]] = {BuiltinCorpus: ["builtin"]}
    for name, corpus in corpora().items():
        if corpus.options is not None:
            owners.setdefault(corpus.options, []).append(name)
    for type_, names in owners.items():
        if keys.corpus in names:
            continue
        given = [
            entry.name
            for entry in dataclasses.fields(type_)
            # the seed also draws the splits of an import
            if entry.name != "seed" and getattr(keys, entry.name) != entry.default
        ]
        if given:
            whose = "the built-in corpus" if names == ["builtin"] else " and ".join(names)
            raise RecipeError(f"{', '.join(given)}: only for {whose}, not {keys.corpus}; leave it out")


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


def _import(recipe: ImportRecipe, seed: int, options: Any, out: Path) -> dict[str, Any]:
    assert recipe.root is not None
    corpus = corpora()[recipe.corpus]
    report = ImportReport(recipe.on_error)
    shares = SplitShares(recipe.validation_share, recipe.test_share, seed, recipe.split_by, recipe.min_split)
    card = import_corpus(
        corpus.reader(options),
        Path(recipe.root),
        out,
        shares,
        report,
        {"corpus": recipe.corpus, "licence": corpus.licence},
        decode=recipe.decode,
        workers=recipe.workers,
    )
    print(*report.summary(), sep="\n")
    for kind in ("dialogues", "turns"):
        print(f"{kind}: " + ", ".join(f"{count} {split}" for split, count in card[kind].items()))
    print(*card["splits"], *missing_splits(card, shares), sep="\n")
    return card

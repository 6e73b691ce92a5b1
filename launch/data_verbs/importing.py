"""`data import`: read a corpus folder, or write the built-in corpus, into a folder with `dialogues.jsonl` and media."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.corpora.iemocap import LeftActor, read_iemocap
from epo.data.corpora.importing import import_corpus, missing_splits
from epo.data.corpora.jsonl import read_own
from epo.data.corpora.m3ed import read_m3ed
from epo.data.corpora.meld import read_meld, read_meld_dyadic
from epo.data.corpora.multidialog import read_multidialog
from epo.data.corpora.report import ImportReport, OnError
from epo.data.corpora.topical_chat import read_topical_chat
from epo.data.corpora.turns import Reader
from epo.data.splits import SplitBy, SplitShares
from launch.recipe import RecipeError, StageRecipe, read_recipe
from launch.stage_folder import open_folder
from launch.tracking import open_run

# reader, language-independent reminder of the terms: the project ships none of these corpora
_CORPORA: dict[str, tuple[Reader, str]] = {
    "multidialog": (read_multidialog, "see huggingface.co/datasets/IVLLab/MultiDialog; check the terms before sharing"),
    "meld": (read_meld, "annotations GPL-3.0; the clips are of a TV series: research use, do not redistribute"),
    "meld_dyadic": (
        read_meld_dyadic,
        "annotations GPL-3.0; the clips are of a TV series: research use, do not redistribute",
    ),
    "iemocap": (read_iemocap, "licence agreement with USC SAIL: research use, do not redistribute"),
    "m3ed": (read_m3ed, "licence agreement with RUC AIM3: research use, do not redistribute"),
    "topical_chat": (read_topical_chat, "CDLA-Sharing-1.0"),
    "jsonl": (read_own, "your own data: note its terms here"),
}


@dataclass(kw_only=True)
class ImportRecipe(StageRecipe):
    """Read a corpus as downloaded, or write the built-in one, into a folder with `dialogues.jsonl` and `media/`."""

    output_dir: str = field(metadata={"help": "folder to write; --out for short"})
    corpus: Literal["builtin", "multidialog", "meld", "meld_dyadic", "iemocap", "m3ed", "topical_chat", "jsonl"] = (
        field(default="builtin", metadata={"help": "which corpus; docs/data.md shows how each must lie in --root"})
    )
    root: str | None = field(default=None, metadata={"help": "the corpus folder; not for builtin"})
    on_error: OnError = field(
        default="stop", metadata={"help": "stop at the first broken row, or skip such rows and count them"}
    )
    validation_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    test_share: float = field(default=0.1, metadata={"help": "held out where the corpus has no splits"})
    split_by: SplitBy = field(
        default="group", metadata={"help": "what is never torn apart: dialogues of one group (speaker, show), or none"}
    )
    min_split: int = field(
        default=1, metadata={"help": "dialogues that validation and test have at least, if it can be"}
    )
    iemocap_left: LeftActor = field(
        default="marked", metadata={"help": "who is in the left half of IEMOCAP's videos: marked, female or male"}
    )
    decode: bool = field(
        default=True, metadata={"help": "read every clip as training will, to find what is broken; no: only open them"}
    )
    workers: int = field(default=2, metadata={"help": "processes that write or read clips"})


def run(argv: Sequence[str]) -> None:
    """Write the corpus that a recipe names, unless this very recipe was finished before."""
    argv = ["--output_dir" + argument[5:] if argument.split("=")[0] == "--out" else argument for argument in argv]
    recipe, builtin = read_recipe([ImportRecipe, BuiltinCorpus], argv)
    check_recipe(recipe, builtin)
    out = Path(recipe.output_dir)
    # The built-in corpus takes minutes to write, and is taken up where it stopped; an import only links files.
    kept = None if recipe.corpus == "builtin" else ["dialogues.jsonl"]
    with open_folder(out, [recipe, builtin], argv, rewritten=kept) as folder:
        if folder.is_done:
            return
        with open_run("data", recipe.pipeline, recipe.experiment, out, folder.resolved) as run:
            if recipe.corpus == "builtin":
                write_builtin_corpus(out, builtin, recipe.workers)
                card = json.loads((out / "card.json").read_text(encoding="utf-8"))
            else:
                card = _import(recipe, builtin.seed, out)
                run.log_metrics(
                    {f"{kind}/{split}": card[kind][split] for kind in ("dialogues", "turns") for split in card[kind]}
                )
            run.log_artifact(out / "card.json")
        folder.finish(card)
    print(f"wrote {out / 'dialogues.jsonl'}")


def check_recipe(recipe: ImportRecipe, builtin: BuiltinCorpus) -> None:
    """Refuse settings that the chosen corpus would ignore, and a corpus folder that is not there."""
    if recipe.corpus == "builtin":
        if recipe.root is not None:
            raise RecipeError("root: the built-in corpus is generated, not read; leave root out or name a corpus")
        return
    if recipe.root is None:
        raise RecipeError(f"root: say where the corpus {recipe.corpus} lies; docs/data.md shows its layout")
    if not Path(recipe.root).is_dir():
        raise RecipeError(f"root: {recipe.root}: no such folder; docs/data.md shows how {recipe.corpus} must lie")
    default = BuiltinCorpus(seed=builtin.seed)
    given = [key for key, value in dataclasses.asdict(builtin).items() if value != getattr(default, key)]
    if given:
        raise RecipeError(f"{', '.join(given)}: only for the built-in corpus, not {recipe.corpus}; leave it out")


def _import(recipe: ImportRecipe, seed: int, out: Path) -> dict[str, Any]:
    assert recipe.root is not None
    read, licence = _CORPORA[recipe.corpus]
    if recipe.corpus == "iemocap":
        read = functools.partial(read_iemocap, left=recipe.iemocap_left)
    report = ImportReport(recipe.on_error)
    shares = SplitShares(recipe.validation_share, recipe.test_share, seed, recipe.split_by, recipe.min_split)
    card = import_corpus(
        read,
        Path(recipe.root),
        out,
        shares,
        report,
        {"corpus": recipe.corpus, "licence": licence},
        decode=recipe.decode,
        workers=recipe.workers,
    )
    print(*report.summary(), sep="\n")
    for kind in ("dialogues", "turns"):
        print(f"{kind}: " + ", ".join(f"{count} {split}" for split, count in card[kind].items()))
    print(*card["splits"], *missing_splits(card, shares), sep="\n")
    return card

"""`data label`: let a model give emotions to turns that have none, marked as such, and say how far to trust it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.progress import show_progress
from epo.data.checking import dialogues_file
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.importing import Card
from epo.data.corpora.listing import label_maps
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import SPLITS, DataError, Dialogue, Turn, read_dialogues, write_dialogues
from epo.data.label_sets import WORDS
from epo.data.labels import LabelMap, read_label_file
from epo.evaluation.labelling import LabelCounts, What, human_labels, item_of, label_dialogues, rate, read_all
from epo.files import write_whole
from epo.judging.named_model import short_name
from epo.judging.opened_judge import EMBEDDINGS_JUDGE, JudgeSettings, open_judge
from launch.data_verbs.derived_corpus import licences_of, refuse_same_folder, with_media, with_output_dir
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import DataKeys, FittedJudgeKeys, OutputKeys, PartsKeys, StageRecipe
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run

if TYPE_CHECKING:
    from epo.evaluation.labellers import Labeller
    from epo.evaluation.labelling import Rating

CORPUS = "corpus"
"""The model that is fitted on people's labels of the corpus itself."""

_MAX_RATED = 2000  # turns a split that the labeller is rated on
_LISTS = ("--splits", "--judge_data")

Ratings = dict[str, "Rating"]


@dataclass(kw_only=True)
class LabelRecipe(FittedJudgeKeys, PartsKeys, OutputKeys, DataKeys, StageRecipe):
    """Let a model give emotions to turns that have none, marked as its own; people's labels stay."""

    model: str = field(
        metadata={"help": "text classifier (hub name or folder), corpus, embeddings, or an extractor stage's folder"}
    )
    what: What = field(metadata={"help": "turns of the assistant or of both by their words, or turns by their clip"})
    labels: str | None = field(
        default=None, metadata={"help": "map of the text classifier's labels: a name or a file, as for import"}
    )
    min_confidence: float = field(default=0.5, metadata={"help": "least probability of a label"})
    splits: list[str] = field(
        default_factory=lambda: ["train", "validation"], metadata={"help": "whose turns are labelled"}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot be, and keys that would do nothing beside others.

        Raises:
            RecipeError: names the key and the remedy.
        """
        if not 0 <= self.min_confidence <= 1:
            raise RecipeError(f"min_confidence {self.min_confidence}: want a probability, 0 to 1")
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise RecipeError(f"splits is {self.splits}, want some of {', '.join(SPLITS)}")
        is_fitted = self.model in (CORPUS, EMBEDDINGS_JUDGE)
        if self.labels is not None and (self.what == "clips" or is_fitted):
            raise RecipeError("labels: only a text classifier has labels of its own; leave it out")
        if self.what == "clips" and is_fitted:
            raise RecipeError(f"model {self.model}: reads words; for clips name the folder of an extractor stage")
        for key in ("judge_embeddings", "judge_data", "judge_cache"):
            if self.model != EMBEDDINGS_JUDGE and getattr(self, key):
                raise RecipeError(
                    f"{key}: belongs to model {EMBEDDINGS_JUDGE}, and this recipe's is {self.model}; leave it out"
                )
        if self.model == EMBEDDINGS_JUDGE and self.judge_embeddings is None:
            raise RecipeError(
                "model: embeddings needs a sentence model: set judge_embeddings to a folder or hub name, such as "
                "sentence-transformers/all-MiniLM-L6-v2"
            )


RECIPES = [LabelRecipe]
"""The keys of a labelling."""


def run(argv: Sequence[str]) -> None:
    """Write the dialogues with labels by a model, into a new folder, unless this very recipe was finished before."""
    argv = as_flags(argv)
    (recipe,) = read_recipe(RECIPES, argv)
    check_recipe(recipe)
    dialogues_file(Path(recipe.data))
    out = Path(recipe.output_dir)
    with open_folder(out, [recipe], argv, rewritten=["dialogues.jsonl"]) as folder:
        if folder.is_done:
            return
        with open_run("label", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            row = _label(recipe, out)
            tracked.log_metrics({f"labelled/{split}": sum(found.values()) for split, found in row["labelled"].items()})
            tracked.log_artifact(out / "labels.json")
        folder.finish(row)
    print(*_summary(row), sep="\n")
    print(f"wrote {out / 'dialogues.jsonl'}")


def as_flags(argv: Sequence[str]) -> list[str]:
    """Return a command line in keys alone: a file, or its folder, that stands there by itself is `--data`.

    Raises:
        DataError: there is no such file.
    """
    flags: list[str] = []
    for place, word in enumerate(argv):
        before = next((other for other in reversed(argv[:place]) if other.startswith("--")), "")
        is_value = before in _LISTS or (place > 0 and argv[place - 1] == before and "=" not in before)
        if word.startswith("-") or is_value:
            flags.append(word)
        else:
            flags += ["--data", str(dialogues_file(Path(word)))]
    return with_output_dir(flags)


def check_recipe(recipe: Any) -> None:
    """Refuse a labelling that would write over what it reads, or with a map of labels that there is not.

    Args:
        recipe: has the keys of a `LabelRecipe` as attributes.

    Raises:
        RecipeError, DataError: with the remedy.
    """
    refuse_same_folder(recipe.output_dir, {"data": [recipe.data]})
    _label_map(recipe.labels)


def require_clip_reader(folder: str) -> None:
    """Refuse a folder that no extractor stage wrote.

    Raises:
        RecipeError: with the remedy.
    """
    if not (Path(folder) / "clip_reader.json").is_file():
        raise RecipeError(f"model {folder}: want the folder that launch/extractor.py wrote; it has no clip_reader.json")


def _label(recipe: LabelRecipe, out: Path) -> dict[str, Any]:
    """Write the dialogues, their media and the numbers, and return what `labels.json` holds."""
    file = Path(recipe.data)
    labeller, ratings = _make_labeller(recipe, file)
    for split, rating in ratings.items():
        print(_format_rating(split, rating, recipe.min_confidence))
    counts, card = LabelCounts(), Card(0.0)
    media = MediaFolder(out, file.parent, ImportReport())
    placed = (with_media(d, media, f"{file}: dialogue {d.id!r}") for d in read_dialogues(file))
    name = _labelled_by(recipe)
    labelled = label_dialogues(placed, labeller, recipe.what, recipe.splits, recipe.min_confidence, name, counts)
    if write_dialogues(out / "dialogues.jsonl", show_progress(_counted(labelled, card), "label", "dialogues")) == 0:
        raise DataError(f"{file}: no dialogue")
    row = {
        "model": recipe.model,
        "what": recipe.what,
        "splits": recipe.splits,
        "min_confidence": recipe.min_confidence,
        **counts.as_json(),
        "rating": {split: asdict(rating) for split, rating in ratings.items()},
    }
    sizes = {key: value for key, value in card.as_json().items() if key != "hours"}
    content = {"corpus": "labelled by a model", "licence": licences_of([recipe.data])[recipe.data], **sizes}
    for written, found in (("labels.json", row), ("card.json", content)):
        write_whole(out / written, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return row


def _counted(dialogues: Iterator[Dialogue], card: Card) -> Iterator[Dialogue]:
    """Yield the dialogues, counting those that have a split."""
    for dialogue in dialogues:
        if dialogue.split is not None:
            card.add(dialogue)
        yield dialogue


def _summary(row: dict[str, Any]) -> Iterator[str]:
    """Yield what was labelled and what was not, a line each."""
    for split, found in row["labelled"].items():
        yield f"{split}: labelled {sum(found.values())}: " + ", ".join(f"{n} {label}" for label, n in found.items())
    yield (
        f"kept: {row['human']} labels by people, {row['machine']} by a model before; left without: "
        f"{row['unsure']} unsure, {row['unreadable']} unreadable, {row['passed_over']} of splits not asked for"
    )


def _labelled_by(recipe: LabelRecipe) -> str:
    """Return what stands beside each label as who gave it."""
    if recipe.judge_embeddings is not None:
        return f"embeddings of {short_name(recipe.judge_embeddings)}"
    return "corpus words" if recipe.model == CORPUS else short_name(recipe.model)


def _make_labeller(recipe: LabelRecipe, file: Path) -> tuple["Labeller", Ratings]:
    """Return the labeller, and how it does on people's labels by split."""
    if recipe.model == EMBEDDINGS_JUDGE:
        return _judge_labeller(recipe, file)
    if recipe.model == CORPUS:
        return _corpus_labeller(recipe, file)
    is_clips = recipe.what == "clips"
    labeller = _clip_labeller(recipe.model) if is_clips else _words_labeller(recipe.model, recipe.labels)
    return labeller, _rate(labeller, recipe, file, SPLITS)


def _corpus_labeller(recipe: LabelRecipe, file: Path) -> tuple["Labeller", Ratings]:
    """Fit on people's labels of train; there it is rated on folds that it has not seen."""
    from epo.evaluation.labellers import CorpusWords

    found = list(human_labels(read_dialogues(file), recipe.what, lambda split: split == "train"))
    emotions = [emotion for _, _, emotion in found]
    groups = [dialogue.id if dialogue.group is None else dialogue.group for dialogue, _, _ in found]
    labeller = CorpusWords([turn.text for _, turn, _ in found], emotions, groups)
    ratings = _rate(labeller, recipe, file, SPLITS[1:])
    held_out = rate(labeller.held_out, emotions, recipe.min_confidence)
    assert held_out is not None  # it was fitted on something
    return labeller, {"train, folds held out": held_out} | ratings


def _words_labeller(model: str, labels: str | None) -> "Labeller":
    from epo.evaluation.labellers import WordsModel

    return WordsModel.load(model, _label_map(labels).read)


def _judge_labeller(recipe: LabelRecipe, file: Path) -> tuple["Labeller", Ratings]:
    """Fit a judge on sentence embeddings, say how good it is on what was held out, and rate it on this corpus too."""
    from epo.data.replies import replies_of
    from epo.evaluation.labellers import JudgeLabeller

    own = [] if recipe.judge_data else replies_of((d for d in read_dialogues(file) if d.split == "train"), "all")
    judge_data = tuple(recipe.judge_data)
    settings = JudgeSettings(EMBEDDINGS_JUDGE, recipe.judge_embeddings, judge_data, recipe.judge_cache)
    opened = open_judge(settings, own)
    for quality in opened.qualities:
        print(f"judge {quality.describe()}")
    print("\n".join(opened.notes), end="\n" if opened.notes else "")
    return JudgeLabeller(opened.judge), _rate(JudgeLabeller(opened.judge), recipe, file, SPLITS[1:])


def _clip_labeller(folder: str) -> "Labeller":
    import torch

    from epo.data.cache import ClipCache
    from epo.evaluation.labellers import ClipModel
    from epo.model.checkpoints import load_weights
    from epo.model.clip_reader import ClipReader
    from epo.model.extractor import EmotionExtractor

    require_clip_reader(folder)
    extractor = load_weights(EmotionExtractor, folder, is_ours=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ClipModel(extractor.to(device), ClipReader.load(Path(folder)), ClipCache(None))


def _label_map(labels: str | None) -> LabelMap:
    """Return a label map by its name or file; without one, the usual words."""
    if labels is None:
        return WORDS
    maps = label_maps()
    return maps[labels] if labels in maps else read_label_file(Path(labels))


def _rate(labeller: "Labeller", recipe: LabelRecipe, file: Path, splits: Sequence[str]) -> Ratings:
    """Rate a labeller on people's labels; on the first two thousand of a split, so that it stays quick."""
    found: dict[str, list[tuple[Turn, Any]]] = {split: [] for split in splits}
    for dialogue, turn, emotion in human_labels(read_dialogues(file), recipe.what, lambda split: split in splits):
        if len(found[str(dialogue.split)]) < _MAX_RATED:
            found[str(dialogue.split)].append((turn, emotion))
    ratings = {}
    for split, turns in found.items():
        shares = read_all(labeller, [item_of(turn, recipe.what) for turn, _ in turns])
        rating = rate(shares, [emotion for _, emotion in turns], recipe.min_confidence)
        if rating is not None:
            ratings[split] = rating
    return ratings


def _format_rating(split: str, rating: "Rating", min_confidence: float) -> str:
    sure = "" if rating.confident_accuracy is None else f", right on {rating.confident_accuracy:.3f} of them"
    advice = "; hardly better: such labels say little" if rating.is_hardly_better else ""
    return (
        f"{split}: right on {rating.accuracy:.3f} of {rating.count} turns that people labelled (always the commonest: "
        f"{rating.majority:.3f}); at {min_confidence:g} or more sure of {rating.confident:.3f}{sure}{advice}"
    )


__all__ = ["CORPUS", "RECIPES", "LabelRecipe", "as_flags", "check_recipe", "require_clip_reader", "run"]

"""`data label`: let a model give emotions to turns that have none, marked as such, and say how far to trust it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from compressor.progress import show_progress
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.listing import label_maps
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import SPLITS, DataError, Dialogue, Turn, read_dialogues, write_dialogues
from epo.data.label_sets import WORDS
from epo.data.labels import LabelMap, read_label_file
from epo.files import write_whole
from launch.keys.parts_folder import receive_parts_root
from launch.recipe import RecipeError

if TYPE_CHECKING:
    from epo.evaluation.labellers import Labeller
    from epo.evaluation.labelling import Rating
    from epo.judging.opened_judge import JudgeSettings

_MAX_RATED = 2000  # turns a split that the labeller is rated on

Ratings = dict[str, "Rating"]


def run(argv: Sequence[str]) -> None:
    """Label turns without emotion by a named model, into a new folder; people's labels are kept as they are."""
    from epo.data.checking import dialogues_file
    from epo.evaluation.labelling import LabelCounts, label_dialogues

    given = _parse(argv)
    receive_parts_root(given)
    file = dialogues_file(given.file)
    if given.out.resolve() == file.parent.resolve():
        raise RecipeError(f"--out {given.out}: is the folder of {file}, which is never written over; name another")
    if not 0 <= given.min_confidence <= 1:
        raise RecipeError(f"--min_confidence {given.min_confidence}: want a probability, 0 to 1")
    labeller, ratings = _make_labeller(given, file)
    for split, rating in ratings.items():
        print(_format_rating(split, rating, given.min_confidence))
    counts = LabelCounts()
    name = _labelled_by(given)
    dialogues = label_dialogues(
        _with_media(file, given.out), labeller, given.what, given.splits, given.min_confidence, name, counts
    )
    if write_dialogues(given.out / "dialogues.jsonl", show_progress(dialogues, "label", "dialogues")) == 0:
        raise DataError(f"{file}: no dialogue")
    row = {
        "model": given.model,
        "what": given.what,
        "splits": given.splits,
        "min_confidence": given.min_confidence,
        **counts.as_json(),
        "rating": {split: asdict(rating) for split, rating in ratings.items()},
    }
    write_whole(given.out / "labels.json", json.dumps(row, indent=2, ensure_ascii=False) + "\n")
    for split, found in row["labelled"].items():
        print(f"{split}: labelled {sum(found.values())}: " + ", ".join(f"{n} {label}" for label, n in found.items()))
    print(
        f"kept: {counts.human} labels by people, {counts.machine} by a model before; left without: "
        f"{counts.unsure} unsure, {counts.unreadable} unreadable, {counts.passed_over} of splits not asked for"
    )
    print(f"wrote {given.out / 'dialogues.jsonl'}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    from epo.evaluation.labelling import What

    parser = argparse.ArgumentParser(prog="launch/data.py label", description=run.__doc__)
    parser.add_argument("file", type=Path, help="a dialogues.jsonl, or its folder")
    parser.add_argument(
        "--model",
        required=True,
        help="text classifier (hub name or folder), corpus, embeddings, or an extractor stage's folder",
    )
    parser.add_argument(
        "--what",
        required=True,
        choices=get_args(What),
        help="the assistant's turns by their words, all turns by their words, or turns by their clip",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write dialogues.jsonl, media/, labels.json to"
    )
    parser.add_argument("--parts_root", help="folder of models that stands in for the hub")
    parser.add_argument("--labels", help="map of the text classifier's labels: a name or a file, as for import")
    parser.add_argument("--judge_embeddings", help="sentence model of embeddings: a hub name or folder")
    parser.add_argument(
        "--judge_data", nargs="+", default=[], help="labelled dialogues.jsonl files that embeddings learns from"
    )
    parser.add_argument("--judge_cache", help="folder that keeps embeddings; none: embed anew")
    parser.add_argument("--min_confidence", type=float, default=0.5, help="least probability of a label")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "validation"], choices=SPLITS, help="whose turns are labelled"
    )
    return parser.parse_args(argv)


def _labelled_by(given: argparse.Namespace) -> str:
    """Return what stands beside each label as who gave it."""
    from epo.judging.named_model import short_name

    if given.model == "embeddings":
        return f"embeddings of {short_name(given.judge_embeddings)}"
    return "corpus words" if given.model == "corpus" else short_name(given.model)


def _make_labeller(given: argparse.Namespace, file: Path) -> tuple["Labeller", Ratings]:
    """Return the labeller, and how it does on people's labels by split."""
    if given.labels is not None and (given.what == "clips" or given.model in ("corpus", "embeddings")):
        raise RecipeError("--labels: only a text classifier has labels of its own; leave it out")
    own = {
        "--judge_embeddings": given.judge_embeddings,
        "--judge_data": given.judge_data,
        "--judge_cache": given.judge_cache,
    }
    idle = [flag for flag, value in own.items() if value]
    if given.model != "embeddings" and idle:
        raise RecipeError(f"{idle[0]}: belongs to --model embeddings, and --model is {given.model}; leave it out")
    if given.model == "embeddings":
        if given.what == "clips":
            raise RecipeError("--model embeddings: reads words; for clips name the folder of an extractor stage")
        return _judge_labeller(given, file)
    if given.model == "corpus":
        if given.what == "clips":
            raise RecipeError("--model corpus: reads words; for clips name the folder of an extractor stage")
        return _corpus_labeller(given, file)
    labeller = _clip_labeller(given.model) if given.what == "clips" else _words_labeller(given.model, given.labels)
    return labeller, _rate(labeller, given, file, SPLITS)


def _corpus_labeller(given: argparse.Namespace, file: Path) -> tuple["Labeller", Ratings]:
    """Fit on people's labels of train; there it is rated on folds that it has not seen."""
    from epo.evaluation.labellers import CorpusWords
    from epo.evaluation.labelling import human_labels, rate

    found = list(human_labels(read_dialogues(file), given.what, lambda split: split == "train"))
    emotions = [emotion for _, _, emotion in found]
    groups = [dialogue.id if dialogue.group is None else dialogue.group for dialogue, _, _ in found]
    labeller = CorpusWords([turn.text for _, turn, _ in found], emotions, groups)
    ratings = _rate(labeller, given, file, SPLITS[1:])
    held_out = rate(labeller.held_out, emotions, given.min_confidence)
    assert held_out is not None  # it was fitted on something
    return labeller, {"train, folds held out": held_out} | ratings


def _words_labeller(model: str, labels: str | None) -> "Labeller":
    from epo.evaluation.labellers import WordsModel

    return WordsModel.load(model, _label_map(labels).read)


def _judge_labeller(given: argparse.Namespace, file: Path) -> tuple["Labeller", Ratings]:
    """Fit a judge on sentence embeddings, say how good it is on what was held out, and rate it on this corpus too."""
    from epo.data.replies import replies_of
    from epo.evaluation.labellers import JudgeLabeller
    from epo.judging.opened_judge import open_judge

    own = [] if given.judge_data else replies_of((d for d in read_dialogues(file) if d.split == "train"), "all")
    opened = open_judge(_judge_settings(given), own)
    for quality in opened.qualities:
        print(f"judge {quality.describe()}")
    print("\n".join(opened.notes), end="\n" if opened.notes else "")
    return JudgeLabeller(opened.judge), _rate(JudgeLabeller(opened.judge), given, file, SPLITS[1:])


def _judge_settings(given: argparse.Namespace) -> "JudgeSettings":
    from epo.judging.opened_judge import EMBEDDINGS_JUDGE, JudgeSettings

    return JudgeSettings(EMBEDDINGS_JUDGE, given.judge_embeddings, tuple(given.judge_data), given.judge_cache)


def _clip_labeller(folder: str) -> "Labeller":
    import torch

    from epo.data.cache import ClipCache
    from epo.evaluation.labellers import ClipModel
    from epo.model.checkpoints import load_weights
    from epo.model.clip_reader import ClipReader
    from epo.model.extractor import EmotionExtractor

    if not (Path(folder) / "clip_reader.json").is_file():
        raise RecipeError(
            f"--model {folder}: want the folder that launch/extractor.py wrote; it has no clip_reader.json"
        )
    extractor = load_weights(EmotionExtractor, folder, is_ours=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ClipModel(extractor.to(device), ClipReader.load(Path(folder)), ClipCache(None))


def _label_map(labels: str | None) -> LabelMap:
    """Return a label map by its name or file; without one, the usual words."""
    if labels is None:
        return WORDS
    maps = label_maps()
    return maps[labels] if labels in maps else read_label_file(Path(labels))


def _rate(labeller: "Labeller", given: argparse.Namespace, file: Path, splits: Sequence[str]) -> Ratings:
    """Rate a labeller on people's labels; on the first two thousand of a split, so that it stays quick."""
    from epo.evaluation.labelling import human_labels, item_of, rate, read_all

    found: dict[str, list[tuple[Turn, Any]]] = {split: [] for split in splits}
    for dialogue, turn, emotion in human_labels(read_dialogues(file), given.what, lambda split: split in splits):
        if len(found[str(dialogue.split)]) < _MAX_RATED:
            found[str(dialogue.split)].append((turn, emotion))
    ratings = {}
    for split, turns in found.items():
        shares = read_all(labeller, [item_of(turn, given.what) for turn, _ in turns])
        rating = rate(shares, [emotion for _, emotion in turns], given.min_confidence)
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


def _with_media(file: Path, out: Path) -> Iterator[Dialogue]:
    """Yield the dialogues with their media brought below the new folder."""
    media = MediaFolder(out, file.parent, ImportReport())
    for dialogue in read_dialogues(file):
        where = f"{file}: dialogue {dialogue.id!r}"
        yield replace(dialogue, turns=tuple(_place(turn, media, where) for turn in dialogue.turns))


def _place(turn: Turn, media: MediaFolder, where: str) -> Turn:
    if turn.clip is None:
        return turn
    audio, video = (None if path is None else media.place(path, where) for path in (turn.clip.audio, turn.clip.video))
    return replace(turn, clip=replace(turn.clip, audio=audio, video=video))

"""`data lend-clips`: give the user turns of a text corpus clips of labelled voices, of the same emotion."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.progress import show_progress
from epo.data.checking import dialogues_file
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.importing import Card
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import SPLITS, Clip, DataError, Dialogue, read_dialogues, write_dialogues
from epo.data.lending import ClipLender, LendingCounts, count_wanted, read_speakers, write_speakers
from epo.data.voices import Voice, VoiceSplits, read_voices, share_out
from epo.files import write_whole
from launch.data_verbs.derived_corpus import (
    licences_of,
    place_clip,
    refuse_same_folder,
    with_media,
    with_output_dir,
)
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import DataKeys, OutputKeys, SeedKeys, StageRecipe
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run

_ABOUT = (
    "a stand-in to try the trainer on real voices: the voice of each lent clip belongs to another person than the one "
    "who wrote the turn, and says other words, in the emotion that both are labelled with"
)


@dataclass(kw_only=True)
class LendRecipe(SeedKeys, OutputKeys, DataKeys, StageRecipe):
    """Give user turns that have an emotion and no clip a clip of that emotion, of a voice of their split."""

    voices: list[str] = field(metadata={"help": "dialogues.jsonl of one or more corpora of labelled clips"})
    voice_splits: VoiceSplits = field(
        default="own",
        metadata={"help": "keep the voices' own splits where they part speakers; drawn: share speakers out anew"},
    )


RECIPES = [LendRecipe]
"""The keys of a lending."""


def run(argv: Sequence[str]) -> None:
    """Write the dialogues that a recipe names with clips lent to them, unless this very recipe was finished before."""
    argv = with_output_dir(argv)
    (recipe,) = read_recipe(RECIPES, argv)
    check_recipe(recipe)
    for file in (recipe.data, *recipe.voices):
        dialogues_file(Path(file))
    out = Path(recipe.output_dir)
    with open_folder(out, [recipe], argv, rewritten=["dialogues.jsonl"]) as folder:
        if folder.is_done:
            return
        with open_run("lend-clips", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            card = _lend(recipe, out)
            tracked.log_metrics({f"lent/{split}": sum(card["lent"][split].values()) for split in SPLITS})
            tracked.log_artifact(out / "card.json")
        folder.finish(card)
    print(*_summary(card), sep="\n")
    print(f"wrote {out / 'dialogues.jsonl'}")


def check_recipe(recipe: Any) -> None:
    """Refuse a lending that would write over what it reads, or without a voice.

    Args:
        recipe: has the keys of a `LendRecipe` as attributes.

    Raises:
        RecipeError: with the remedy.
    """
    if not recipe.voices:
        raise RecipeError("voices: name the dialogues.jsonl of at least one corpus of labelled clips")
    refuse_same_folder(recipe.output_dir, {"data": [recipe.data], "voices": recipe.voices})
    twice = [file for file, count in Counter(Path(file).resolve() for file in recipe.voices).items() if count > 1]
    if twice:
        raise RecipeError(f"voices: {twice[0]} is named twice; name each corpus once")


def _lend(recipe: LendRecipe, out: Path) -> dict[str, Any]:
    """Write the dialogues, their media, the speakers' splits and the card, and return the card."""
    data = Path(recipe.data)
    wanted = count_wanted(read_dialogues(data))
    if not wanted:
        raise DataError(
            f"{data}: no user turn has an emotion and lacks a clip, so there is nothing to lend; `launch/data.py "
            "describe` shows what it holds, `launch/data.py label` gives emotions"
        )
    voices = [voice for file in recipe.voices for voice in read_voices(Path(file))]
    earlier = read_speakers(out / "speakers.json", recipe.seed)
    split_of = share_out(voices, wanted, recipe.seed, recipe.voice_splits, earlier)
    counts, card = LendingCounts(), Card(0.0)
    lender = ClipLender(voices, split_of, recipe.seed, _placing(recipe.voices, out), counts)
    dialogues = show_progress(_lent(data, out, lender, card), "lend", "dialogues")
    write_dialogues(out / "dialogues.jsonl", dialogues)
    write_speakers(out / "speakers.json", split_of, recipe.seed)
    held = {split: sorted(v.name for v in voices if split_of[v.group] == split) for split in SPLITS}
    sizes = {key: value for key, value in card.as_json().items() if key != "hours"}
    content = {
        "corpus": "lent clips",
        "about": _ABOUT,
        "licence": licences_of([recipe.data, *recipe.voices]),
        **sizes,
        **counts.as_json(),
        "speakers": held,
        "voices": {
            str(file): sum(len(c) for v in voices if v.file == Path(file) for c in v.clips.values())
            for file in recipe.voices
        },
    }
    write_whole(out / "card.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return content


def _lent(data: Path, out: Path, lender: ClipLender, card: Card) -> Iterator[Dialogue]:
    """Yield the dialogues as they are written: with the media that they had, and clips lent to them."""
    own = MediaFolder(out, data.parent, ImportReport(), below="own")
    for dialogue in read_dialogues(data):
        dialogue = lender.lend(with_media(dialogue, own, f"{data}: dialogue {dialogue.id!r}"))
        if dialogue.split is not None:
            card.add(dialogue)
        yield dialogue


def _placing(files: Sequence[str], out: Path) -> Any:
    """Return what brings a voice's clip below `out/media/lent`, each corpus in a folder of its own."""
    folders: dict[Path, MediaFolder] = {}
    names: Counter[str] = Counter()
    for file in map(Path, files):
        name = file.resolve().parent.name
        names[name] += 1
        below = f"lent/{name}" if names[name] == 1 else f"lent/{name}-{names[name]}"
        folders[file] = MediaFolder(out, file.parent, ImportReport(), below=below)

    def place(voice: Voice, clip: Clip) -> Clip:
        return place_clip(clip, folders[voice.file], f"{voice.file}: {voice.name}")

    return place


def _summary(card: dict[str, Any]) -> Iterator[str]:
    """Yield what was lent and what was not, a line each."""
    lent = {split: sum(card["lent"][split].values()) for split in SPLITS}
    yield "lent: " + ", ".join(
        f"{count} {split} ({len(card['speakers'][split])} speakers)" for split, count in lent.items()
    )
    without: Counter[str] = Counter()
    for split in SPLITS:
        without.update(card["left_without_voice"][split])
    if without:
        named = ", ".join(f"{count} {emotion}" for emotion, count in without.most_common())
        yield f"left without, for no voice of the dialogue's split has the emotion: {named}"
    for key, words in (
        ("lent_again", "lent again in one dialogue, for its voice had no other"),
        ("unlabelled", "user turns without an emotion, left without"),
        ("own_clip", "user turns with a clip of their own, kept"),
    ):
        if count := sum(card[key].values()):
            yield f"{words}: {count}"


__all__ = ["RECIPES", "LendRecipe", "check_recipe", "run"]
